// usage: NODE_EXTRA_CA_CERTS=CA-FILE node capture_client.mjs CA-FILE SEED ORIGIN...   (see capture_client.py)

import { createHash } from "node:crypto";

const [, seed, ...origins] = process.argv.slice(2);
const upload = Buffer.from(Array.from({ length: 1 << 20 }, (_, i) => i & 255));

for (const origin of origins) {
  const got = await fetch(`${origin}/bytes/${seed}/1000003`);
  const bytes = Buffer.from(await got.arrayBuffer());
  console.log("get", createHash("sha256").update(bytes).digest("hex"));
  const posted = await fetch(`${origin}/digest`, { method: "POST", body: upload });
  console.log("post", (await posted.text()).trim());
}
