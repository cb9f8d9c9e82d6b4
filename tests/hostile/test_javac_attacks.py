"""Sources that attack the Java compiler, which is itself a large program that was never meant for hostile input."""

from __future__ import annotations

import pytest
from proving_ground import ProvingGround, compile_output, ground

from evalx.verdicts import Verdict

__all__ = ["ground"]


def main(body: str, rest: str = "") -> str:
    """A program with this main."""
    return f"public class Main {{ public static void main(String[] a) throws Exception {{ {body} }} }}{rest}"


def classes(count: int) -> str:
    """Many small classes."""
    return "".join(f"class C{i} {{}}" for i in range(count))


CONSTANTS = "".join(f"static final String A{i} = A{i - 1} + A{i - 1};" for i in range(1, 34))
#: What does not compile, and what the compiler or evalx says about it.
REFUSED = {
    "a class file": ("\xca\xfe\xba\xbe\0\0\0\x41", "illegal character"),
    "a module": ("module x { }", "module-info.java"),
    "20,000 brackets": (main("int x = " + "(" * 20000 + "1" + ")" * 20000 + ";"), ""),
    "100,000 additions": (main("int x = 1" + "+1" * 100000 + ";"), ""),
    "20,000 blocks": (main("{" * 20000 + "}" * 20000), ""),
    "8 GiB of constants": (f'public class Main {{ static final String A0 = "x"; {CONSTANTS} }}', "OutOfMemoryError"),
    "an initialiser over 64 KiB": (main("int[] x = {" + "1," * 30000 + "};"), "code too large"),
    "too many constants": (
        "public class Main {"
        + "".join(f"void f{i}(int x{i}) {{}}" for i in range(9000))
        + "void "
        + "f" * 70000
        + "() {}}",
        "",
    ),
    "a name over 255 bytes": (main("", "class " + "A" * 300 + " {}"), "A"),
    "packages 20 deep": ("package " + ".".join("abcdefghijklmnopqrst") + "; " + main(""), "too deep"),
    "4,200 classes": (main("", classes(4200)), "too many files"),
    "a static block that never ends": ("public class Main { static { while (true); } }", "initializer"),
    "5,000 errors": ("public class Main {" + "".join(f"X{i} x{i};" for i in range(5000)) + "}", ""),
    "no identifier": (main("new A☃();", "class A☃ {}"), "illegal character"),
    "nothing that closes": ("public class Main { /*", "unclosed comment"),
    "escapes that begin a comment": (main("\\u002f\\u002a"), "unclosed comment"),
}

#: What compiles and runs, and what it prints.
ACCEPTED = {
    "3,000 classes": (main("System.out.println(1);", classes(3000)), "1"),
    "names with control characters": (
        main("System.out.println(new A\\u0001().getClass().getName().length());", "class A\\u0001 {}"),
        "1",
    ),
    "names that differ in case": (main("System.out.println(1);", "class main {} class MAIN {} class nul {}"), "1"),
    "names in Unicode": (main("System.out.println(new Größe().x);", "class Größe { int x = 1; }"), "1"),
    "escapes that end a string": (main('System.out.println("\\u0022+1+\\u0022");'), "1"),
}

PROCESSOR = """
import java.io.*;
import java.util.*;
import javax.annotation.processing.*;
import javax.lang.model.element.TypeElement;
@SupportedAnnotationTypes("*")
public class Main extends AbstractProcessor {
    static final boolean COMPILING = Thread.currentThread().getStackTrace().length > 3;
    static {
        if (COMPILING)
            try { new FileWriter("/tmp/by-the-compiler").close(); new ProcessBuilder("setsid", "sleep", "9").start(); }
            catch (IOException e) { }
    }
    @Override public boolean process(Set<? extends TypeElement> types, RoundEnvironment round) { return true; }
    public static void main(String[] a) { System.out.println(new File("/tmp/by-the-compiler").exists()); }
}
"""


@pytest.mark.parametrize("name", REFUSED)
async def test_what_does_not_compile(ground: ProvingGround, name: str):
    code, said = REFUSED[name]
    output = compile_output(await ground.strike("java", code))
    assert said in output
    assert len(output) < 70_000


@pytest.mark.parametrize("name", ACCEPTED)
async def test_what_is_odd_and_allowed(ground: ProvingGround, name: str):
    code, printed = ACCEPTED[name]
    judged = await ground.strike("java", code, expected=printed)
    assert judged.verdicts == [Verdict.AC], judged


async def test_an_annotation_processor_is_only_a_class(ground: ProvingGround):
    """It would run in the compiler, were it asked for; it is neither asked for nor found."""
    judged = await ground.strike("java", PROCESSOR, expected="false")
    assert judged.verdicts == [Verdict.AC], judged
    assert judged.compile is not None
    assert judged.compile.output == ""


async def test_a_main_class_elsewhere_is_not_found(ground: ProvingGround):
    judged = await ground.strike("java", "package a.b; " + main(""))
    assert judged.verdicts == [Verdict.RTE]
    assert "ClassNotFoundException" in judged.tests[0].stderr
