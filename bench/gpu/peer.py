"""What PyTorch reaches on the same GPU: the ceilings (a large copy, a large product) and its own kernels for the calls of cases.ts.

peer.py OUT.json SIZE:HIDDEN:HEADS:BATCH...      run by `npm run gpu:check`, whose kernels stage puts these times beside ours

Every time is of one call, in seconds, from CUDA graphs of many calls, so that the host's part is in none of them, as in kernels.ts.
Attention is the best of the backends of scaled_dot_product_attention that take the shape. What fails says so and is left out.
"""
import json
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TOKENS, MAP, REPLAYS = 197, 16, 7
NAMES = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
BACKENDS = {name: getattr(SDPBackend, value) for name, value in NAMES.items() if hasattr(SDPBackend, value)}  # older ones lack cudnn


def timed(fn, calls):
    """The median over replays of a graph of some calls of fn."""
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


def values(*shape, dtype=torch.bfloat16, grad=False):
    return (torch.rand(*shape, device="cuda") * 2 - 1).to(dtype).requires_grad_(grad)


def attention(batch, heads, head):
    """Seconds of the best backend, forward and backward."""
    packed = values(batch, TOKENS, 3, heads, head)
    best = {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                q, k, v = (packed[:, :, i].transpose(1, 2).detach().requires_grad_(True) for i in range(3))
                dout = values(batch, heads, TOKENS, head)
                with torch.no_grad():
                    forward = timed(lambda: F.scaled_dot_product_attention(q, k, v), 20)
                both = timed(lambda: torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), (q, k, v), dout), 10)
        except Exception as error:
            print("attention %s, batch %d: %s" % (name, batch, str(error).split("\n")[0][:120]), flush=True)
            continue
        for what, seconds in (("attention", forward), ("attention grad", both - forward)):
            if what not in best or seconds < best[what][0]:
                best[what] = (seconds, name)
    return best


def model_calls(size, hidden, heads, batch):
    rows, d = batch * TOKENS, hidden
    for name, n, k in (("qkv", 3 * d, d), ("proj", d, d), ("fc1", 4 * d, d), ("fc2", d, 4 * d)):
        x, w, b = values(rows, k), values(n, k), values(n)
        run = (lambda: F.gelu(F.linear(x, w, b))) if name == "fc1" else (lambda: F.linear(x, w, b))
        yield name, lambda: timed(run, 20), "cuBLAS"
    x, g = values(rows, d), values(d)
    yield "layernorm", lambda: timed(lambda: F.layer_norm(x, (d,), g, g), 20), ""
    maps = values(batch, d, MAP, MAP).to(memory_format=torch.channels_last)
    kernel = values(d, d, 3, 3).to(memory_format=torch.channels_last)
    bias = values(d)
    yield "conv", lambda: timed(lambda: F.relu(F.conv2d(maps, kernel, bias, padding=1)), 10), "cuDNN"


def main():
    out, shapes = sys.argv[1], [a.split(":") for a in sys.argv[2:]]
    torch.backends.cudnn.benchmark = True
    x, w = values(8192, 8192), values(8192, 8192)
    source = values(1 << 28)
    target = torch.empty_like(source)
    with torch.no_grad():
        ceilings = {
            "tflops": 2 * 8192**3 / timed(lambda: F.linear(x, w), 4) / 1e12,
            "gbytes": 2 * 2 * (1 << 28) / timed(lambda: target.copy_(source), 4) / 1e9,
        }
    print("PyTorch %s: product %.0f TFLOP/s, copy %.0f GB/s" % (torch.__version__, ceilings["tflops"], ceilings["gbytes"]), flush=True)
    del x, w, source, target
    rows = []
    for size, hidden, heads, batch in shapes:
        hidden, heads, batch = int(hidden), int(heads), int(batch)

        def note(name, seconds, by):
            rows.append({"case": "%s b%d %s" % (size, batch, name), "seconds": seconds, "by": by})

        for name, (seconds, by) in attention(batch, heads, hidden // heads).items():
            note(name, seconds, by)
        with torch.no_grad():
            for name, run, by in model_calls(size, hidden, heads, batch):
                try:
                    note(name, run(), by)
                except Exception as error:
                    print("%s b%d %s: %s" % (size, batch, name, str(error).split("\n")[0][:120]), flush=True)
        torch.cuda.empty_cache()
    with open(out, "w") as f:
        json.dump({"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "ceilings": ceilings, "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()
