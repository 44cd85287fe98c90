// Runs a preset, reads every event, and prints what it read as JSON: the rows of both logs, and
// for each column the sum and the SHA-256 of its values as little-endian 64-bit integers.
//
// Usage: node run_preset.js ADDRESS PROTOS PRESET

"use strict";

const { createHash } = require("node:crypto");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

class Column {
  constructor() {
    this.sum = 0n;
    this.hash = createHash("sha256");
  }

  take(values) {
    const numbers = BigUint64Array.from(values, BigInt);
    for (const number of numbers) this.sum += number;
    this.hash.update(numbers);
  }

  told() {
    return { sum: String(this.sum), sha256: this.hash.digest("hex") };
  }
}

class Log {
  constructor() {
    this.rows = 0;
    this.columns = new Map();
  }

  take(batch, nextOffset) {
    const lengths = new Set();
    for (const [name, values] of Object.entries(batch ?? {})) {
      if (!this.columns.has(name)) this.columns.set(name, new Column());
      this.columns.get(name).take(values);
      lengths.add(values.length);
    }
    if (lengths.size > 1) throw new Error(`columns of ${[...lengths]} rows in one batch`);
    for (const length of lengths) this.rows += length;
    if (this.rows !== Number(nextOffset)) throw new Error(`${this.rows} rows, not ${nextOffset}`);
  }

  told() {
    const columns = [...this.columns].map(([name, column]) => [name, column.told()]);
    return { rows: this.rows, columns: Object.fromEntries(columns) };
  }
}

function services(protos) {
  const files = ["simulation_service.proto", "catalog_service.proto"];
  const definition = protoLoader.loadSync(
    files.map((file) => `faultlane/v1/${file}`),
    { includeDirs: [protos], keepCase: true, longs: String, enums: String, arrays: true },
  );
  return grpc.loadPackageDefinition(definition).faultlane.v1;
}

function presetOf(catalog, id) {
  return new Promise((resolve, reject) => {
    catalog.GetPreset({ id }, (error, response) =>
      error ? reject(error) : resolve(response.preset),
    );
  });
}

async function run(simulations, scenario) {
  const faults = new Log();
  const operations = new Log();
  let simulation;
  for await (const message of simulations.RunSimulation({ scenario })) {
    faults.take(message.faults, message.next_fault_offset ?? 0);
    operations.take(message.operations, message.next_operation_offset ?? 0);
    simulation = message.simulation;
  }
  if (!simulation) throw new Error("the stream was cut");
  return { simulation, faults: faults.told(), operations: operations.told() };
}

async function main([address, protos, preset]) {
  const { SimulationService, CatalogService } = services(protos);
  const credentials = grpc.credentials.createInsecure();
  const { scenario } = await presetOf(new CatalogService(address, credentials), preset);
  const told = await run(new SimulationService(address, credentials), scenario);
  process.stdout.write(JSON.stringify(told));
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
