import { createReadStream, createWriteStream, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { TheiaError, fileError } from '../errors.js';
import { FileSource, writeFileWhole } from '../formats/file.js';
import { indexTar, readMember } from '../formats/tar.js';

/** A file that was unpacked: its path below the folder with `/` between the parts, and its size. */
export interface UnpackedFile {
  path: string;
  size: number;
}

/** No package that we fetch comes near; a small tarball can claim any size. */
const MAX_UNPACKED = 2 ** 31;

/**
 * Unpacks a `.tgz` into a folder: plain files only, as the archive's own reader lets them through (no links, no devices, no `..`), written
 * without any of the archive's modes, owners and times, so that nothing becomes executable.
 * @throws ERR_CORRUPT naming archive and member; ERR_FILE, ERR_DISK
 */
export async function unpackTarball(tarball: string, folder: string, limit = MAX_UNPACKED): Promise<UnpackedFile[]> {
  const plain = `${tarball}.tar`;
  try {
    await gunzip(tarball, plain, limit);
    const members = indexTar(plain);
    const seen = new Set<string>();
    const source = new FileSource(plain);
    try {
      return members.map((member) => {
        // On some disks two spellings are one file, and a later member must not replace an earlier one.
        const spelling = member.name.normalize('NFC').toLowerCase();
        if (seen.has(spelling)) throw new TheiaError('ERR_CORRUPT', `${tarball}: member ${JSON.stringify(member.name)} comes twice`);
        seen.add(spelling);
        const target = join(folder, member.name);
        const bytes = readMember(source.fd, member, tarball);
        try {
          mkdirSync(dirname(target), { recursive: true });
        } catch (error) {
          throw fileError(error, dirname(target), 'creating');
        }
        writeFileWhole(target, (write) => write(bytes));
        return { path: member.name, size: member.size };
      });
    } finally {
      source.close();
    }
  } finally {
    await rm(plain, { force: true });
  }
}

/** Inflates a file, at most `limit` bytes of it. */
async function gunzip(from: string, to: string, limit: number): Promise<void> {
  let total = 0;
  const count = new Transform({
    transform(piece: Buffer, _encoding, done) {
      total += piece.length;
      if (total <= limit) done(null, piece);
      else done(new TheiaError('ERR_CORRUPT', `${from}: more than ${limit} bytes unpacked`));
    },
  });
  try {
    await pipeline(createReadStream(from), createGunzip(), count, createWriteStream(to));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code?.startsWith('Z_')) throw new TheiaError('ERR_CORRUPT', `${from}: not a whole gzip file: ${message}`, { cause: error });
    throw fileError(error, from, 'unpacking');
  }
}
