const [n, ...values] = require("fs").readFileSync(0, "utf8").split(/\s+/).filter(Boolean).map(Number);
values.sort((a, b) => a - b);
const count = new Map();
for (const value of values) {
  count.set(value, (count.get(value) || 0) + 1);
}
const sum = values.reduce((total, value) => total + value, 0);
console.log(`${sum} ${values[n >> 1]} ${count.size}`);
