// Runs one scenario of one SDK, as an application would write it, and prints what came out as JSON:
//   BASE_URL=... KEY=... node drive.mjs openai stream
// What an SDK throws is printed as {error: {status, name}}.
import dns from "node:dns";
import { Readable } from "node:stream";

// Names under localhost are this machine (RFC 6761); not every resolver knows.
const lookup = dns.lookup;
dns.lookup = (host, ...rest) => lookup(host.endsWith(".localhost") ? "127.0.0.1" : host, ...rest);

const base = process.env.BASE_URL;
const key = process.env.KEY;
const question = [{ role: "user", content: "Where do keys live?" }];

async function collect(items) {
  const all = [];
  for await (const item of items) all.push(item.id);
  return all;
}

const scenarios = {
  async openai() {
    const { default: OpenAI } = await import("openai");
    const client = (options) => new OpenAI({ baseURL: base, apiKey: key, maxRetries: 0, ...options });
    const chat = { model: "gpt-fake-0", messages: question };
    return {
      list: async () => ({ ids: await collect(client().models.list()) }),
      paginate: async () => ({ ids: await collect(client().files.list({ limit: 2 })) }),
      create: async () => ({ text: (await client().chat.completions.create(chat)).choices[0].message.content }),
      retry: async () => ({ text: (await client({ maxRetries: 1 }).chat.completions.create(chat)).choices[0].message.content }),
      respond: async () => ({ text: (await client().responses.create({ model: chat.model, input: "Where do keys live?" })).output_text }),
      async events() {
        let text = "", chunks = 0;
        for await (const event of await client().responses.create({ model: chat.model, input: "Where do keys live?", stream: true })) {
          chunks++;
          text += event.delta ?? "";
        }
        return { text, chunks };
      },
      async stream() {
        let text = "", chunks = 0;
        for await (const chunk of await client().chat.completions.create({ ...chat, stream: true })) {
          chunks++;
          text += chunk.choices[0].delta.content ?? "";
        }
        return { text, chunks };
      },
      async upload() {
        const file = new File(["x".repeat(300_000)], "data.jsonl", { type: "application/jsonl" });
        const { bytes, filename } = await client().files.create({ file, purpose: "batch" });
        return { bytes, filename };
      },
      async abort() {
        const stream = await client().chat.completions.create({ ...chat, stream: true });
        let chunks = 0;
        for await (const _ of stream) {
          chunks++;
          stream.controller.abort();
        }
        return { chunks };
      },
    };
  },

  async anthropic() {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const client = (options) => new Anthropic({ baseURL: base, apiKey: key, maxRetries: 0, ...options });
    const message = { model: "claude-fake-0", max_tokens: 100, messages: question };
    return {
      list: async () => ({ ids: (await client().models.list({ limit: 5 })).data.map((m) => m.id) }),
      paginate: async () => ({ ids: await collect(client().models.list({ limit: 3 })) }),
      async upload() {
        const file = new File(["x".repeat(300_000)], "data.txt", { type: "text/plain" });
        const { size_bytes, filename } = await client().beta.files.upload({ file });
        return { bytes: size_bytes, filename };
      },
      create: async () => ({ text: (await client().messages.create(message)).content[0].text }),
      retry: async () => ({ text: (await client({ maxRetries: 1 }).messages.create(message)).content[0].text }),
      stream: async () => ({ text: await client().messages.stream(message).finalText() }),
      async results() {
        const ids = [];
        for await (const result of await client().messages.batches.results("msgbatch_1")) ids.push(result.custom_id);
        return { ids };
      },
      async abort() {
        const stream = await client().messages.create({ ...message, stream: true });
        let chunks = 0;
        for await (const _ of stream) {
          chunks++;
          stream.controller.abort();
        }
        return { chunks };
      },
    };
  },

  async stripe() {
    const { default: Stripe } = await import("stripe");
    const { hostname, port, protocol } = new URL(base);
    const client = (retries) => new Stripe(key, { host: hostname, port, protocol: protocol.slice(0, -1), maxNetworkRetries: retries, telemetry: false });
    return {
      list: async () => ({ ids: (await client(0).customers.list({ limit: 2 })).data.map((c) => c.id) }),
      paginate: async () => ({ ids: await collect(client(0).customers.list({ limit: 3 })) }),
      create: async () => ({ email: (await client(0).customers.create({ email: "a+b@example.com", metadata: { plan: "pro" } })).email }),
      retry: async () => ({ email: (await client(1).customers.create({ email: "c@example.com" })).email }),
      async upload() {
        const file = { data: Buffer.alloc(300_000, "x"), name: "evidence.pdf", type: "application/pdf" };
        const { size, filename } = await client(0).files.create({ purpose: "dispute_evidence", file });
        return { bytes: size, filename };
      },
      async stream() {
        let bytes = 0;
        for await (const part of await client(0).quotes.pdf("qt_1")) bytes += part.length;
        return { bytes };
      },
      // stripe-node ends a request by its timeout only.
      abort: async () => { await client(0).customers.list({ limit: 2 }, { timeout: 1500 }); },
    };
  },

  async intercom() {
    const { IntercomClient } = await import("intercom-client");
    const client = new IntercomClient({ token: key, environment: base, maxRetries: 1 });
    return {
      list: async () => ({ ids: (await client.contacts.list({ per_page: 5 })).data.map((c) => c.id) }),
      paginate: async () => ({ ids: await collect(await client.contacts.list({ per_page: 3 })) }),
      create: async () => ({ email: (await client.contacts.create({ email: "a@example.com" })).email }),
      once: async () => ({ email: (await client.contacts.create({ email: "a@example.com" }, { maxRetries: 0 })).email }),
      retry: async () => ({ id: (await client.admins.identify()).id }),
      async abort() {
        await client.contacts.list({ per_page: 3 }, { abortSignal: AbortSignal.timeout(1500), maxRetries: 0 });
      },
    };
  },

  async zendesk() {
    const { default: { createClient } } = await import("node-zendesk");
    const client = createClient({ username: "me@example.com", token: key, endpointUri: base });
    return {
      paginate: async () => ({ ids: (await client.users.list()).map((u) => u.id) }),
      async upload() {
        const { upload } = await client.attachments.upload(Readable.from([Buffer.alloc(150_000, "x"), Buffer.alloc(150_000, "y")]), { filename: "log.txt", binary: true });
        return { bytes: upload.attachment.size, filename: upload.attachment.file_name };
      },
      create: async () => ({ email: (await client.users.create({ user: { name: "Marie", email: "marie@example.com" } })).result.email }),
    };
  },
};

const [sdk, scenario] = process.argv.slice(2);
let out;
try {
  out = await (await scenarios[sdk]())[scenario]();
} catch (e) {
  out = { error: { status: e.status ?? e.statusCode ?? 0, name: e.constructor.name, message: String(e.message).slice(0, 300) } };
}
console.log(JSON.stringify(out));
process.exit(0);
