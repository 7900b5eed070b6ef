// Parses the AsyncAPI document; prints what the parser finds, and fails if it finds anything.

import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const one of diagnostics) console.error(`${one.code} ${one.path.join("/")}: ${one.message}`);
process.exitCode = diagnostics.length > 0 ? 1 : 0;
