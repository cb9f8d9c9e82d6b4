"""Small programs that look at what a virtual machine does: they say the same whether it was started or forked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A source, its stdin, and its limits in seconds."""

    source: str
    stdin: bytes = b"1 2\n3 4\n"
    seconds: int = 8
    #: Far over what a busy machine needs.
    wall_seconds: int = 60


_PACKAGES = ("java.io", "java.nio.file", "java.util", "java.util.concurrent", "java.util.stream")


def _main(body: str, more: str = "") -> Program:
    imports = "".join(f"import {package}.*;\n" for package in _PACKAGES)
    main = f"public static void main(String[] args) throws Exception {{\n{body}\n}}"
    return Program(f"{imports}{more}\npublic class Main {{ {main} }}\n")


PROGRAMS = {
    "sum": _main(
        "Scanner in = new Scanner(System.in); long s = 0; while (in.hasNext()) s += in.nextLong(); System.out.print(s);"
    ),
    "echo": _main("System.out.println(new BufferedReader(new InputStreamReader(System.in)).readLine());"),
    "properties": _main(
        """
        TreeMap<Object, Object> all = new TreeMap<>(System.getProperties());
        all.forEach((key, value) ->
            System.out.println(key + "=" + value.toString().replaceAll("/scratch/[0-9]+", "here")));
        new TreeMap<>(System.getenv()).forEach((key, value) -> System.out.println(key + "=" + value));
        System.out.println(Locale.getDefault() + " " + TimeZone.getDefault().getID() + " " + System.console());
        Runtime runtime = Runtime.getRuntime();
        System.out.println(args.length + " " + runtime.availableProcessors() + " " + runtime.maxMemory());
        """
    ),
    "directory": _main(
        """
        String here = Path.of("/proc/self/cwd").toRealPath().toString();
        System.out.println(here.startsWith("/scratch/"));
        System.out.println(here.equals(System.getProperty("user.dir")));
        System.out.println(here.equals(new File("").getAbsolutePath()));
        System.out.println(here.equals(new File(".").getCanonicalPath()));
        System.out.println(here.equals(Path.of("").toAbsolutePath().toString()));
        System.out.println(here.equals(Path.of(".").toRealPath().toString()));
        try (FileWriter out = new FileWriter("mine")) { out.write("text"); }
        System.out.println(Files.readString(Path.of("mine")) + " " + new File(here, "mine").length());
        System.out.println(new File("mine").toURI().getPath().equals(here + "/mine"));
        """
    ),
    "process": _main(
        """
        for (String line : Files.readAllLines(Path.of("/proc/self/status")))
            if (line.matches("(Cap|NoNewPrivs|Seccomp|Threads|Sig|Shd|Name|Cpus_allowed_list).*"))
                System.out.println(line);
        for (String line : Files.readAllLines(Path.of("/proc/self/limits")))
            System.out.println(line.replaceAll(" +", " "));
        System.out.println(Files.readString(Path.of("/proc/self/cmdline")));
        System.out.println(Files.readString(Path.of("/proc/self/oom_score_adj")));
        System.out.println(Arrays.asList(new File("/proc/self/fd").list()));
        String pid = Long.toString(ProcessHandle.current().pid());
        System.out.println(pid.equals(new File("/proc/self").getCanonicalFile().getName()));
        var child = new ProcessBuilder("/bin/sh", "-c", "echo $0; env | grep -v PWD; ls /proc/self/fd").start();
        System.out.println(new String(child.getInputStream().readAllBytes()));
        """
    ),
    "threads": _main(
        """
        System.out.println(Thread.currentThread() + " " + Thread.activeCount() + " " + new Thread().getName());
        TreeSet<String> names = new TreeSet<>();
        for (Thread thread : Thread.getAllStackTraces().keySet())
            names.add(thread.getName() + thread.isDaemon() + thread.threadId());
        System.out.println(names);
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> sums = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            int k = i;
            sums.add(pool.submit(() -> { long s = 0; for (int j = 0; j < 100_000; j++) s += (long) j * k; return s; }));
        }
        long sum = 0;
        for (var one : sums) sum += one.get();
        pool.shutdown();
        System.out.println(sum + " " + IntStream.range(0, 1_000_000).parallel().asLongStream().sum());
        Thread.startVirtualThread(() -> System.out.println("virtual")).join();
        synchronized (pool) { pool.wait(5); }
        """
    ),
    "computes": _main(
        """
        long[] values = new long[1_000_000];
        for (int round = 0; round < 20; round++)
            for (int i = 0; i < values.length; i++) values[i] += (long) i * round;
        Map<String, Integer> count = new HashMap<>();
        for (int i = 0; i < 200_000; i++) count.merge("k" + i % 1000, 1, Integer::sum);
        System.gc();
        System.out.println(values[999_999] + " " + count.size() + " " + String.format("%.3f", 1.5));
        """
    ),
    "deep": _main(
        """
        System.out.println(Deep.down(200_000));
        try { Deep.forever(); } catch (StackOverflowError error) { System.out.println(Deep.depth > 100_000); }
        Thread large = new Thread(null, () -> System.out.println(Deep.down(400_000)), "large", 1 << 27);
        large.start();
        large.join();
        """,
        more="""
        class Deep {
            static int depth;
            static void forever() { depth++; forever(); }
            static int down(int n) { return n == 0 ? 0 : 1 + down(n - 1); }
        }
        """,
    ),
    "heap": _main(
        """
        List<int[]> all = new ArrayList<>();
        try { for (;;) all.add(new int[1 << 18]); }
        catch (OutOfMemoryError error) { all = null; System.out.println("no more"); }
        Object nothing = null;
        try { nothing.hashCode(); } catch (NullPointerException error) { error.printStackTrace(); }
        """
    ),
    "exception": _main('System.out.println("before"); int[] one = new int[1]; one[2] = 1;'),
    "cause": _main(
        """
        Runnable run = () -> { throw new IllegalStateException("inner"); };
        try { run.run(); } catch (Exception e) { throw new Exception("outer", e); }
        """
    ),
    "handler": _main(
        """
        Thread.setDefaultUncaughtExceptionHandler((t, e) -> System.out.println(t.getName() + e));
        throw new Error("x");
        """
    ),
    "memory_error": _main(
        "long[][] all = new long[1000][]; for (int i = 0; i < 1000; i++) all[i] = new long[1 << 20];"
    ),
    "exit": _main(
        """
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.out.print("kept");
        System.exit(7);
        """
    ),
    "exit_elsewhere": _main(
        """
        new Thread(() -> { try { Thread.sleep(50); } catch (InterruptedException e) { } System.exit(9); }).start();
        for (;;) Thread.sleep(1000);
        """
    ),
    "halt": _main("Runtime.getRuntime().halt(5);"),
    "late": _main(
        """
        new Thread(() -> {
            try { Thread.sleep(100); } catch (InterruptedException e) { }
            System.out.println("late");
        }).start();
        throw new Exception("early");
        """
    ),
    "daemon": _main(
        'Thread d = new Thread(() -> { for (;;) { } }); d.setDaemon(true); d.start(); System.out.print("end");'
    ),
    "initializer": Program("public class Main { static int x = 1 / 0; public static void main(String[] args) { } }"),
    "no_main": Program("public class Main { }"),
    "other_class": Program("class Other { public static void main(String[] args) { System.out.println(1); } }"),
    "wrong_main": Program("public class Main { public static int main(String[] args) { return 0; } }"),
    "inherited": Program(
        "class Base { public static void main(String[] args) { System.out.println(args.length); } }\n"
        "public class Main extends Base { }"
    ),
    "interface": Program("public interface Main { static void main(String[] args) { System.out.println(2); } }"),
    "instance": Program("class Main { void main() { System.out.println(3); } }"),
    "signal": _main(
        """
        new ProcessBuilder("/bin/sh", "-c", "kill -TERM " + ProcessHandle.current().pid()).start();
        Thread.sleep(20_000);
        """
    ),
    "no_class_of_ours": _main(
        'try { System.out.println(Class.forName(args.length == 0 ? "Warm" : "")); } '
        "catch (ClassNotFoundException e) { System.out.println(e); }"
    ),
    "loops": Program("public class Main { public static void main(String[] args) { for (;;) { } } }", seconds=1),
}
