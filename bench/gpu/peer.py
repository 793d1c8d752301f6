"""What PyTorch reaches on the same GPU: the ceilings (a large copy, a large product) and its own kernels for the calls of cases.ts.

peer.py OUT.json SIZE:HIDDEN:HEADS:BATCH...      run by `npm run gpu:check`, whose kernels stage puts these times beside ours

Every time is of one call, in seconds, from CUDA graphs of many calls, so that the host's part is in none of them, as in kernels.ts.
Attention is the best of the backends of scaled_dot_product_attention that take the shape. What fails says so and is left out.
"""
import json
import math
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TOKENS, MAP, REPLAYS = 197, 16, 7
NAMES = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
BACKENDS = {name: getattr(SDPBackend, value) for name, value in NAMES.items() if hasattr(SDPBackend, value)}  # older ones lack cudnn


SAMPLE_SECONDS, MOST_CALLS = 0.004, 400  # as kernels.ts: the launch of a graph is then no part of what is measured


def timed(fn):
    """The median over replays of a graph of calls of fn that lasts long enough."""
    estimate = sample(fn, 10)
    return sample(fn, max(10, min(MOST_CALLS, math.ceil(SAMPLE_SECONDS / max(estimate, 1e-6)))))


def sample(fn, calls):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            fn()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            fn()
    graph.replay()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000 / calls)
    return sorted(times)[REPLAYS // 2]


def values(*shape):
    return (torch.rand(*shape, device="cuda") * 2 - 1).to(torch.bfloat16)


def attention(batch, heads, head):
    """Seconds of the best backend, forward and backward."""
    packed = values(batch, TOKENS, 3, heads, head)
    best = {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                q, k, v = (packed[:, :, i].transpose(1, 2).detach().requires_grad_(True) for i in range(3))
                dout = values(batch, TOKENS, heads, head).transpose(1, 2)  # as the output lies: another layout would be copied first
                with torch.no_grad():
                    forward = timed(lambda: F.scaled_dot_product_attention(q, k, v))
                both = timed(lambda: torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), (q, k, v), dout))
        except Exception as error:
            print("attention %s, batch %d: %s" % (name, batch, str(error).split("\n")[0][:120]), flush=True)
            continue
        for what, seconds in (("attention", forward), ("attention grad", both - forward)):
            if what not in best or seconds < best[what][0]:
                best[what] = (seconds, name)
    return best


def model_calls(hidden, batch):
    rows, d = batch * TOKENS, hidden
    for name, n, k in (("qkv", 3 * d, d), ("proj", d, d), ("fc1", 4 * d, d), ("fc2", d, 4 * d)):
        x, w, b = values(rows, k), values(n, k), values(n)
        run = (lambda: F.gelu(F.linear(x, w, b))) if name == "fc1" else (lambda: F.linear(x, w, b))
        yield name, lambda: timed(run), "cuBLAS"
    x, g = values(rows, d), values(d)
    yield "layernorm", lambda: timed(lambda: F.layer_norm(x, (d,), g, g)), ""
    maps = values(batch, d, MAP, MAP).to(memory_format=torch.channels_last)
    kernel = values(d, d, 3, 3).to(memory_format=torch.channels_last)
    bias = values(d)
    yield "conv", lambda: timed(lambda: F.relu(F.conv2d(maps, kernel, bias, padding=1))), "cuDNN"


def measure_ceilings():
    x, w = values(8192, 8192), values(8192, 8192)
    source = values(1 << 28)
    target = torch.empty_like(source)
    with torch.no_grad():
        return {
            "tflops": 2 * 8192**3 / timed(lambda: F.linear(x, w)) / 1e12,
            "gbytes": 2 * 2 * (1 << 28) / timed(lambda: target.copy_(source)) / 1e9,
        }


def main():
    out, shapes = sys.argv[1], [a.split(":") for a in sys.argv[2:]]
    torch.backends.cudnn.benchmark = True
    ceilings = measure_ceilings()
    print("PyTorch %s: product %.0f TFLOP/s, copy %.0f GB/s" % (torch.__version__, ceilings["tflops"], ceilings["gbytes"]), flush=True)
    rows = []

    def save():  # as it goes: what comes later may fail
        with open(out, "w") as f:
            json.dump({"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "ceilings": ceilings, "rows": rows}, f, indent=1)

    save()
    for size, hidden, heads, batch in shapes:
        hidden, heads, batch = int(hidden), int(heads), int(batch)

        def note(name, seconds, by):
            rows.append({"case": "%s b%d %s" % (size, batch, name), "seconds": seconds, "by": by})

        for name, (seconds, by) in attention(batch, heads, hidden // heads).items():
            note(name, seconds, by)
        with torch.no_grad():
            for name, run, by in model_calls(hidden, batch):
                try:
                    note(name, run(), by)
                except Exception as error:
                    print("%s b%d %s: %s" % (size, batch, name, str(error).split("\n")[0][:120]), flush=True)
        torch.cuda.empty_cache()
        save()


if __name__ == "__main__":
    main()
