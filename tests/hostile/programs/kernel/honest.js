// What honest JavaScript programs use of the kernel.
const { Worker, isMainThread, parentPort } = require("worker_threads");
const child = require("child_process");
const fs = require("fs");
const net = require("net");
const os = require("os");
const path = require("path");

async function main() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "honest"));
  const at = (name) => path.join(directory, name);
  console.log("- worker", await new Promise((done) => new Worker(__filename).on("message", done)));
  console.log("- shell", child.execSync("echo hi").toString().trim());
  console.log("- fork", await new Promise((done) => child.fork(__filename, ["child"]).on("message", done)));
  fs.writeFileSync(at("a"), "x");
  fs.copyFileSync(at("a"), at("b"), fs.constants.COPYFILE_FICLONE);
  fs.cpSync(at("a"), at("c"));
  console.log("- files", (await fs.promises.readFile(at("b"), "utf8")) + fs.readFileSync(at("c")));
  console.log("- local", await new Promise((done) => {
    const server = net.createServer((socket) => socket.end("u"));
    server.listen(at("socket"), () => net.connect(at("socket")).on("data", (data) => { done(String(data)); server.close(); }));
  }));
  console.log("- zip", await new Promise((done) => require("zlib").gzip("x", (_error, data) => done(data.length > 0))));
  console.log("- random", await new Promise((done) => require("crypto").randomBytes(4, (_error, data) => done(data.length))));
  console.log("- timer", await new Promise((done) => setTimeout(done, 1, "rang")));
  console.log("end");
}

if (!isMainThread) parentPort.postMessage("w");
else if (process.argv[2] === "child") { process.send("c"); process.disconnect(); }
else main();
