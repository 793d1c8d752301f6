export { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from './half.js';
export {
  Safetensors,
  SafetensorsFile,
  encodeSafetensors,
  parseSafetensors,
  writeSafetensors,
  type Metadata,
  type StoredDtype,
  type StoredTensor,
  type TensorToLay,
  type TensorToWrite,
} from './safetensors.js';
export { SafetensorsSink } from './safetensors_sink.js';
export { encodeNpy, npyFloat32, parseNpy, readNpy, writeNpy, type NpyArray, type NpyData, type NpyDtype } from './npy.js';
export { TarWriter, indexTar, readMember, type TarMember } from './tar.js';
export { openTfjsWeights, type TfjsDtype, type TfjsTensor, type TfjsWeights } from './tfjs.js';
export { FileSource, syncFolder, writeFileWhole } from './file.js';
export { decodeUtf8, parseJson, type Json } from './json.js';
