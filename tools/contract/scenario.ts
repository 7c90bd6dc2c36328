// What a frontend does, with the types that openapi-typescript makes of the document; checked by tsc, run by node.
// Prints what it saw as one line of JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./build/schema.js";

type Account = components["schemas"]["Account"];
declare const process: { argv: string[] };

const [baseUrl = "", key = ""] = process.argv.slice(2);
const crm = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

function present<T>(value: T | undefined, error?: unknown): T {
  if (value === undefined) throw new Error(`no reply: ${JSON.stringify(error)}`);
  return value;
}

async function create(name: string): Promise<Account> {
  const { data, error, response } = await crm.POST("/v1/accounts", {
    params: { header: { "Idempotency-Key": `typescript-${name}` } },
    body: { name, tags: ["typescript"] },
  });
  const account = present(data, error);
  if (response.headers.get("location") !== `/v1/accounts/${account.id}`) throw new Error("another location");
  return account;
}

async function page(): Promise<string[]> {
  const names: string[] = [];
  let cursor: string | undefined;
  do {
    const { data, error } = await crm.GET("/v1/accounts", {
      params: { query: { tags: ["typescript"], sort: ["-annual_revenue", "name"], limit: 2, ...(cursor ? { cursor } : {}) } },
    });
    const rows = present(data, error);
    names.push(...rows.data.map((row) => row.name));
    cursor = rows.next_cursor ?? undefined;
  } while (cursor);
  return names;
}

async function change(account: Account) {
  const path = { id: account.id };
  const header = { "If-Match": `"${account.version}"` };
  const first = await crm.PATCH("/v1/accounts/{id}", { params: { path, header }, body: { industry: "Food" } });
  const second = await crm.PATCH("/v1/accounts/{id}", { params: { path, header }, body: { industry: "Retail" } });
  const problem = present(second.error, second.data);
  return {
    industry: present(first.data, first.error).industry,
    status: second.response.status,
    code: problem.code,
    changed: problem.changed,
    current: problem.current_version,
  };
}

async function refuse() {
  const { error, response } = await crm.POST("/v1/accounts", { body: { name: "", tags: [] } });
  const problem = present(error);
  return { status: response.status, code: problem.code, pointers: problem.errors.map((fault) => fault.pointer) };
}

async function follow() {
  const started = await crm.POST("/v1/accounts/duplicates/scan", { body: { score: 70 } });
  let job = present(started.data, started.error);
  for (let turn = 0; turn < 300 && !["succeeded", "failed", "cancelled"].includes(job.state); turn++) {
    await new Promise((done) => setTimeout(done, 50));
    const { data, error } = await crm.GET("/v1/jobs/{id}", { params: { path: { id: job.id } } });
    job = present(data, error);
  }
  return { status: started.response.status, state: job.state };
}

const accounts = [await create("Uno"), await create("Dos"), await create("Tres")];
const names = await page();
const changed = await change(present(accounts[0]));
console.log(JSON.stringify({ names, changed, refused: await refuse(), job: await follow() }));
