import java.nio.file.*;
import java.util.*;

/** Threads, processes that stay, other people's files, and memory, from Java. */
public class Main {
    /** Also the threads of this process have a folder in /proc. */
    static boolean isMine(int pid) {
        try {
            return Files.readString(Path.of("/proc/" + pid + "/status")).contains("\nTgid:\t" + ProcessHandle.current().pid() + "\n");
        } catch (Exception gone) {
            return false;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String how = new Scanner(System.in).next();
        switch (how) {
            case "threads" -> {
                while (true) {
                    Thread thread = new Thread(() -> {
                        while (true) Thread.onSpinWait();
                    });
                    thread.setDaemon(true);
                    thread.start();
                }
            }
            case "processes" -> {
                for (int i = 0; i < 100; i++) new ProcessBuilder("/bin/sh", "-c", "setsid sleep 60 & sleep 60").start();
            }
            case "files" -> {
                for (int pid = 1; pid < 400; pid++) {
                    if (isMine(pid)) continue;
                    for (String name : List.of("mem", "environ", "maps", "root/etc/passwd", "fd/0", "fd/1", "fd/3")) {
                        try (var in = Files.newInputStream(Path.of("/proc/" + pid + "/" + name))) {
                            if (in.read() >= 0) System.out.println("worked: " + pid + " " + name);
                        } catch (Exception expected) {
                            continue;
                        }
                    }
                    ProcessHandle.of(pid).ifPresent(one -> {
                        if (one.destroyForcibly()) System.out.println("worked: destroyed " + one.pid());
                    });
                }
            }
            case "memory" -> {
                List<byte[]> keep = new ArrayList<>();
                while (true) keep.add(new byte[1 << 20]);
            }
            default -> System.exit(5);
        }
        System.out.println("end");
    }
}
