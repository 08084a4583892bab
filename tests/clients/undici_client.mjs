// usage: undici_client.mjs PROXY HTTPS-ORIGIN HTTP-ORIGIN CA-FILE SEED   (see common.py for the output; `-` is no proxy)
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.CLIENT_MODULES, 'package.json'));
const { Agent, ProxyAgent, request, fetch } = require('undici');

const [proxy, https, http, ca, seed] = process.argv.slice(2);
const requestTls = { ca: readFileSync(ca) };
const agent = (options) =>
  proxy === '-' ? new Agent({ connect: requestTls }) : new ProxyAgent({ uri: proxy, requestTls, ...options });
const tunnel = agent({});
// Without a tunnel a plain target is asked for in absolute form.
const absolute = agent({ proxyTunnel: false });
const upload = Buffer.concat(Array(4096).fill(Buffer.from(Array.from({ length: 256 }, (_, i) => i))));
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

async function ask(what, url, options) {
  const { statusCode, body } = await request(url, options);
  const bytes = Buffer.from(await body.arrayBuffer());
  if (statusCode !== 200) throw new Error(`${what}: ${statusCode} ${bytes}`);
  return bytes;
}

async function download(what, url, dispatcher) {
  console.log(what, sha256(await ask(what, url, { dispatcher })));
}

async function send(what, url, dispatcher, body) {
  console.log(what, (await ask(what, url, { dispatcher, method: 'POST', body })).toString());
}

async function* pieces() {
  for (let start = 0; start < upload.length; start += 10007) yield upload.subarray(start, start + 10007);
}

await download('https', `${https}/bytes/${seed}/1000003`, tunnel);
await download('http', `${http}/bytes/${seed}/1000003`, absolute);
await download('http-tunnelled', `${http}/bytes/${seed}/1000003`, tunnel);
await download('chunked', `${http}/chunked/${seed}/1000003`, absolute);
await download('until-close', `${http}/until-close/${seed}/1000003`, absolute);
await send('upload-https', `${https}/digest`, tunnel, upload);
await send('upload-http', `${http}/digest`, absolute, upload);
await send('upload-https-chunked', `${https}/digest`, tunnel, pieces());
await send('upload-http-chunked', `${http}/digest`, absolute, pieces());
const events = await fetch(`${http}/events/50`, { dispatcher: absolute });
console.log('events', (await events.text()).split('\n').filter((line) => line.startsWith('data:')).length);
await Promise.all([tunnel.close(), absolute.close()]);
