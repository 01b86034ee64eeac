// SPDX-License-Identifier: MIT
// Worker threads and 16 concurrent jobs of libuv's pool (files and crypto), each verified. Prints "ok: ...".
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const fs = require('fs');
const os = require('os');
const path = require('path');
const zlib = require('zlib');
const assert = require('assert');

const WORKERS = 8, JOBS = 16, ROUNDS = 6;

function promised(f, ...a) {
	return new Promise((resolve, reject) => f(...a, (e, x) => e ? reject(e) : resolve(x)));
}

function primes(n) {
	let count = 0;
	outer: for (let i = 2; i < n; i++) {
		for (let k = 2; k * k <= i; k++)
			if (i % k === 0)
				continue outer;
		count++;
	}
	return count;
}

if (!isMainThread) {
	// Compute, allocate, and count in shared memory with Atomics, blocking in Atomics.wait for the turn.
	const turn = new Int32Array(workerData.shared);
	const me = workerData.me;
	for (let r = 0; r < 50; r++) {
		for (;;) {
			const now = Atomics.load(turn, 0);
			if (now % WORKERS === me)
				break;
			Atomics.wait(turn, 0, now);
		}
		Atomics.add(turn, 0, 1);
		Atomics.notify(turn, 0);
		for (let i = 0, junk = []; i < 2000; i++)
			junk.push({ i, s: 'x' + i });
	}
	parentPort.on('message', (m) => {
		if (m === 'end')
			process.exit(0);
		parentPort.postMessage(crypto.createHash('sha256').update(m).digest('hex'));
	});
	parentPort.postMessage({ primes: primes(20000 + me) });
} else {
	main().then((s) => console.log(s), (e) => { console.error(e); process.exit(1); });
}

function worker(me, shared) {
	return new Promise((resolve, reject) => {
		const w = new Worker(__filename, { workerData: { me, shared } });
		const hashes = [];
		w.on('error', reject);
		w.on('message', (m) => {
			if (m.primes !== undefined) {
				assert.strictEqual(m.primes, primes(20000 + me));
				w.postMessage('job ' + me);
				return;
			}
			hashes.push(m);
			assert.strictEqual(m, crypto.createHash('sha256').update('job ' + me).digest('hex'));
			w.postMessage('end');
		});
		w.on('exit', (code) => code === 0 && hashes.length === 1 ? resolve() : reject(new Error('worker: ' + code)));
	});
}

async function fsJob(dir, i) {
	const name = path.join(dir, 'f' + i), data = crypto.randomBytes(300000);
	for (let r = 0; r < ROUNDS; r++) {
		await fs.promises.writeFile(name, data);
		assert((await fs.promises.readFile(name)).equals(data));
		await fs.promises.rename(name, name + 'x');
		assert.strictEqual((await fs.promises.stat(name + 'x')).size, data.length);
		await fs.promises.unlink(name + 'x');
	}
	await assert.rejects(fs.promises.readFile(name), { code: 'ENOENT' });
}

async function cryptoJob(i) {
	const want = crypto.pbkdf2Sync('p' + i, 'salt', 2000, 32, 'sha256');
	for (let r = 0; r < ROUNDS; r++) {
		assert((await promised(crypto.pbkdf2, 'p' + i, 'salt', 2000, 32, 'sha256')).equals(want));
		const key = await promised(crypto.scrypt, 'p' + i, 'salt', 32, { N: 1024 });
		assert(key.equals(crypto.scryptSync('p' + i, 'salt', 32, { N: 1024 })));
		const data = Buffer.alloc(100000, 'text ' + i);
		assert((await promised(zlib.gunzip, await promised(zlib.gzip, data))).equals(data));
	}
}

async function main() {
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-node-'));
	const shared = new SharedArrayBuffer(4);
	const all = [];
	let ticks = 0;
	const timer = setInterval(() => ticks++, 5);
	try {
		for (let i = 0; i < WORKERS; i++)
			all.push(worker(i, shared));
		for (let i = 0; i < JOBS / 2; i++)
			all.push(fsJob(dir, i), cryptoJob(i));
		await Promise.all(all);
		assert.strictEqual(new Int32Array(shared)[0], WORKERS * 50);
		const { address } = await require('dns').promises.lookup('localhost', { family: 4 });
		assert.strictEqual(address, '127.0.0.1');
		const child = await promised(require('child_process').execFile, 'echo', ['child']);
		assert.strictEqual(String(child).trim(), 'child');
	} finally {
		clearInterval(timer);
		fs.rmSync(dir, { recursive: true });
	}
	assert(ticks > 0);
	return `ok: ${WORKERS} workers, ${JOBS} jobs`;
}
