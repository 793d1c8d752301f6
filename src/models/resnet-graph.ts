import { TheiaError } from '../errors.js';

/** One convolution with its batch norm, by their names in the file. */
export interface ConvLayer {
  name: string;
  norm: string;
  /** of the batch norm */
  epsilon: number;
  inputs: number;
  outputs: number;
  kernel: number;
  stride: number;
  padding: number;
}

/** relu(c(relu(b(relu(a(x))))) + (shortcut ? shortcut(x) : x)), each with its batch norm. */
export interface Bottleneck {
  /** stage and letter: `2a` */
  name: string;
  a: ConvLayer;
  b: ConvLayer;
  c: ConvLayer;
  shortcut: ConvLayer | undefined;
}

/** A Keras ResNet of bottlenecks, version 1: a stage's stride is in the first 1x1 convolution of its first block, and in the shortcut. */
export interface ResnetGraph {
  /** side of the input image */
  size: number;
  stem: ConvLayer;
  /** stages 2, 3, ... */
  stages: Bottleneck[][];
  /** the last layer */
  dense: { name: string; inputs: number; outputs: number };
}

/** A layer of model.json that was looked at; the file's objects are only read by their own properties. */
interface Layer {
  name: string;
  kind: string;
  config: object;
  inputs: string[];
}

function own(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
}

/** Far more than any such network has. */
const MAX_LAYERS = 4096;
const MAX_SIDE = 4096;

/**
 * Reads the network off a model's topology, following the layers from the input to the last one. The names of convolutions, batch norms and
 * the dense layer are those of the weights; activations, additions and paddings may be called anything.
 * @param topology `modelTopology` of model.json
 * @throws ERR_CORRUPT naming the layer that is not what this kind of network has there
 */
export function readResnetGraph(topology: unknown, label: string): ResnetGraph {
  return new Walk(topology, label).network();
}

class Walk {
  readonly #label: string;
  readonly #consumers = new Map<string, Layer[]>();
  readonly #input: Layer;
  #visited = 0;
  readonly #total: number;

  constructor(topology: unknown, label: string) {
    this.#label = label;
    const list = own(own(own(topology, 'model_config'), 'config'), 'layers');
    if (!Array.isArray(list) || list.length === 0 || list.length > MAX_LAYERS)
      throw this.#bad('expected a list of layers at modelTopology.model_config.config.layers');
    const layers = list.map((item) => this.#layer(item));
    const byName = new Map(layers.map((l) => [l.name, l]));
    if (byName.size !== layers.length) throw this.#bad('two layers have the same name');
    for (const layer of layers) {
      for (const input of layer.inputs) {
        if (!byName.has(input)) throw this.#bad(`layer ${layer.name} reads ${JSON.stringify(input)}, there is no such layer`);
        const known = this.#consumers.get(input);
        if (known === undefined) this.#consumers.set(input, [layer]);
        else known.push(layer);
      }
    }
    const inputs = layers.filter((l) => l.kind === 'InputLayer');
    if (inputs.length !== 1) throw this.#bad(`expected one InputLayer, got ${inputs.length}`);
    this.#input = inputs[0];
    this.#total = layers.length;
  }

  #bad(message: string): TheiaError {
    return new TheiaError('ERR_CORRUPT', `${this.#label}: not a ResNet of Keras' first version: ${message}`);
  }

  #layer(item: unknown): Layer {
    const name = own(item, 'name');
    const kind = own(item, 'class_name');
    const config = own(item, 'config');
    const nodes = own(item, 'inbound_nodes');
    if (typeof name !== 'string' || typeof kind !== 'string' || typeof config !== 'object' || config === null || !Array.isArray(nodes))
      throw this.#bad('a layer without name, class_name, config or inbound_nodes');
    if (nodes.length > 1) throw this.#bad(`layer ${name} is used ${nodes.length} times`);
    const node: unknown = nodes[0] ?? [];
    if (!Array.isArray(node)) throw this.#bad(`the inputs of layer ${name} are no list`);
    const inputs = node.map((entry: unknown) => {
      const input: unknown = Array.isArray(entry) ? entry[0] : undefined;
      if (typeof input !== 'string') throw this.#bad(`an input of layer ${name} has no name`);
      return input;
    });
    return { name, kind, config, inputs };
  }

  /** The one layer of this kind (and, if given, name) that reads another one's output. */
  #next(from: Layer, kind: string, name?: RegExp): Layer {
    const found = (this.#consumers.get(from.name) ?? []).filter((l) => l.kind === kind && (name === undefined || name.test(l.name)));
    const wanted = `${kind}${name === undefined ? '' : ` called ${name.source}`}`;
    if (found.length !== 1) throw this.#bad(`expected one ${wanted} behind ${from.name}, got ${found.length}`);
    if (kind !== 'Add' && found[0].inputs.length !== 1) throw this.#bad(`layer ${found[0].name} has ${found[0].inputs.length} inputs`);
    this.#visited += 1;
    return found[0];
  }

  #expect(layer: Layer, key: string, value: unknown): void {
    const got = JSON.stringify(own(layer.config, key));
    if (got !== JSON.stringify(value))
      throw this.#bad(
        `layer ${layer.name}: expected ${key} ${JSON.stringify(value)}, got ${got === undefined ? 'none' : got.slice(0, 60)}`,
      );
  }

  #count(layer: Layer, key: string): number {
    const value = own(layer.config, key);
    if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > 65536)
      throw this.#bad(`layer ${layer.name}: expected a whole number ${key}, got ${JSON.stringify(value)?.slice(0, 60)}`);
    return value as number;
  }

  #relu(from: Layer): Layer {
    const layer = this.#next(from, 'Activation');
    this.#expect(layer, 'activation', 'relu');
    return layer;
  }

  /** A convolution and its batch norm; `behind` is the latter. */
  #conv(from: Layer, inputs: number, expected: { name: RegExp; kernel: number; padding: number; explicit?: boolean }): Convolved {
    const { name, kernel, padding, explicit } = expected;
    const layer = this.#next(from, 'Conv2D', name);
    this.#expect(layer, 'kernel_size', [kernel, kernel]);
    this.#expect(layer, 'activation', 'linear');
    this.#expect(layer, 'use_bias', true);
    this.#expect(layer, 'dilation_rate', [1, 1]);
    // Padding `same` is half the kernel on every side at stride 1 only; a 1x1 kernel needs none whatever it says.
    if (kernel > 1) this.#expect(layer, 'padding', explicit ? 'valid' : 'same');
    const stride = this.#stride(layer);
    if (kernel > 1 && !explicit && stride !== 1) throw this.#bad(`layer ${layer.name}: expected stride 1, got ${stride}`);
    const norm = this.#next(layer, 'BatchNormalization');
    const axis = JSON.stringify(own(norm.config, 'axis'));
    if (axis !== '3' && axis !== '[3]' && axis !== '-1') throw this.#bad(`layer ${norm.name}: expected axis 3, got ${axis}`);
    this.#expect(norm, 'scale', true);
    this.#expect(norm, 'center', true);
    const epsilon = own(norm.config, 'epsilon');
    if (typeof epsilon !== 'number' || !(epsilon > 0 && epsilon < 1)) throw this.#bad(`layer ${norm.name}: expected an epsilon in (0, 1)`);
    const outputs = this.#count(layer, 'filters');
    return { conv: { name: layer.name, norm: norm.name, epsilon, inputs, outputs, kernel, stride, padding }, behind: norm };
  }

  #stride(layer: Layer): number {
    const strides = own(layer.config, 'strides');
    if (!Array.isArray(strides) || strides.length !== 2 || strides[0] !== strides[1] || (strides[0] !== 1 && strides[0] !== 2))
      throw this.#bad(`layer ${layer.name}: expected strides [1,1] or [2,2], got ${JSON.stringify(strides)?.slice(0, 60)}`);
    return strides[0] as number;
  }

  #pad(from: Layer, by: number): Layer {
    const layer = this.#next(from, 'ZeroPadding2D');
    this.#expect(layer, 'padding', [
      [by, by],
      [by, by],
    ]);
    return layer;
  }

  network(): ResnetGraph {
    const shape = own(this.#input.config, 'batch_input_shape');
    const size = Array.isArray(shape) ? (shape[1] as unknown) : undefined;
    if (
      !Number.isInteger(size) ||
      (size as number) < 32 ||
      (size as number) > MAX_SIDE ||
      JSON.stringify(shape) !== `[null,${size},${size},3]`
    )
      throw this.#bad(`expected an input [null,S,S,3], got ${JSON.stringify(shape)?.slice(0, 60)}`);
    const first = this.#conv(this.#pad(this.#input, 3), 3, { name: /^conv1$/, kernel: 7, padding: 3, explicit: true });
    if (first.conv.stride !== 2) throw this.#bad(`layer ${first.conv.name}: expected stride 2, got ${first.conv.stride}`);
    const pool = this.#next(this.#pad(this.#relu(first.behind), 1), 'MaxPooling2D');
    this.#expect(pool, 'pool_size', [3, 3]);
    this.#expect(pool, 'strides', [2, 2]);
    this.#expect(pool, 'padding', 'valid');

    const stages: Bottleneck[][] = [];
    let at = pool;
    let width = first.conv.outputs;
    for (let stage = 2; !this.#has(at, 'GlobalAveragePooling2D'); stage++) {
      const blocks: Bottleneck[] = [];
      for (let letter = 0; letter < 26 && (blocks.length === 0 || this.#opens(at, stage, letter)); letter++) {
        const { block, behind } = this.#block(at, width, `${stage}${String.fromCharCode(97 + letter)}`, letter === 0);
        blocks.push(block);
        at = behind;
        width = block.c.outputs;
      }
      stages.push(blocks);
    }
    const dense = this.#next(this.#next(at, 'GlobalAveragePooling2D'), 'Dense');
    this.#expect(dense, 'activation', 'softmax');
    this.#expect(dense, 'use_bias', true);
    if (this.#visited + 1 !== this.#total)
      throw this.#bad(`it has ${this.#total} layers, ${this.#visited + 1} of them on the way to the end`);
    const outputs = this.#count(dense, 'units');
    return { size: size as number, stem: first.conv, stages, dense: { name: dense.name, inputs: width, outputs } };
  }

  #has(from: Layer, kind: string): boolean {
    return (this.#consumers.get(from.name) ?? []).some((l) => l.kind === kind);
  }

  #opens(from: Layer, stage: number, letter: number): boolean {
    const name = `res${stage}${String.fromCharCode(97 + letter)}_branch2a`;
    return (this.#consumers.get(from.name) ?? []).some((l) => l.name === name);
  }

  #block(from: Layer, inputs: number, name: string, first: boolean): { block: Bottleneck; behind: Layer } {
    const layer = (branch: string): RegExp => new RegExp(`^res${name}_branch${branch}$`);
    const a = this.#conv(from, inputs, { name: layer('2a'), kernel: 1, padding: 0 });
    const b = this.#conv(this.#relu(a.behind), a.conv.outputs, { name: layer('2b'), kernel: 3, padding: 1 });
    const c = this.#conv(this.#relu(b.behind), b.conv.outputs, { name: layer('2c'), kernel: 1, padding: 0 });
    const shortcut = first ? this.#conv(from, inputs, { name: layer('1'), kernel: 1, padding: 0 }) : undefined;
    if (c.conv.stride !== 1 || (!first && a.conv.stride !== 1)) throw this.#bad(`block ${name} has a stride in a wrong place`);
    if (shortcut && shortcut.conv.stride !== a.conv.stride) throw this.#bad(`block ${name}: its shortcut has another stride`);
    const other = shortcut?.conv.outputs ?? inputs;
    if (other !== c.conv.outputs) throw this.#bad(`block ${name} adds ${c.conv.outputs} channels to ${other}`);
    const sum = this.#next(c.behind, 'Add');
    const parts = [c.behind.name, (shortcut?.behind ?? from).name].sort();
    if ([...sum.inputs].sort().join('\0') !== parts.join('\0')) throw this.#bad(`layer ${sum.name} does not add ${parts.join(' and ')}`);
    return { block: { name, a: a.conv, b: b.conv, c: c.conv, shortcut: shortcut?.conv }, behind: this.#relu(sum) };
  }
}

interface Convolved {
  conv: ConvLayer;
  behind: Layer;
}
