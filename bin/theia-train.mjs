#!/usr/bin/env node
import { start } from './start.mjs';

await start(['train', ...process.argv.slice(2)]);
