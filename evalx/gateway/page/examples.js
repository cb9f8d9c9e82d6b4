// @ts-check
/** A first program in each language: the sum of two numbers. */

/** @type {Record<string, string>} */
const PROGRAMS = {
  c: `#include <stdio.h>

int main(void) {
    long long a, b;
    scanf("%lld %lld", &a, &b);
    printf("%lld\\n", a + b);
}
`,
  cpp: `#include <iostream>

int main() {
    long long a, b;
    std::cin >> a >> b;
    std::cout << a + b << '\\n';
}
`,
  python: `a, b = map(int, input().split())
print(a + b)
`,
  java: `import java.util.Scanner;

public class Main {
    public static void main(String[] args) {
        Scanner in = new Scanner(System.in);
        System.out.println(in.nextLong() + in.nextLong());
    }
}
`,
  javascript: `const [a, b] = require("fs").readFileSync(0, "utf8").split(/\\s+/).map(Number);
console.log(a + b);
`,
};

export const TESTS = [
  { stdin: "1 2", expected: "3" },
  { stdin: "-5 5", expected: "0" },
  { stdin: "2000000000 2000000000", expected: "4000000000" },
];

/** @param {string} language */
export function program(language) {
  return PROGRAMS[language] ?? "";
}

/** Whether a source is nobody's own work. @param {string} code */
export function isExample(code) {
  return code.trim() === "" || Object.values(PROGRAMS).includes(code);
}
