import java.io.*;
import java.net.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** What honest Java programs use of the kernel. */
public class Main {
    public static void main(String[] arguments) throws Exception {
        try (var executor = Executors.newVirtualThreadPerTaskExecutor()) {
            System.out.println("- virtual " + executor.submit(() -> 5).get());
        }
        System.out.println("- parallel " + IntStream.range(0, 100_000).parallel().mapToLong(i -> i).sum());
        Process process = new ProcessBuilder("echo", "hi").start();
        System.out.println("- process " + new String(process.getInputStream().readAllBytes()).trim() + process.waitFor());
        Path directory = Files.createTempDirectory("honest"), one = directory.resolve("one"), two = directory.resolve("two");
        Files.writeString(one, "zz");
        Files.copy(one, two, StandardCopyOption.COPY_ATTRIBUTES);
        try (var from = FileChannel.open(one); var to = FileChannel.open(two, StandardOpenOption.WRITE)) {
            System.out.println("- transfer " + from.transferTo(0, 2, to));
            System.out.println("- mapped " + from.map(FileChannel.MapMode.READ_ONLY, 0, 2).get(0));
            System.out.println("- lock " + to.lock().isValid());
        }
        try (Selector selector = Selector.open(); Pipe.SourceChannel source = Pipe.open().source()) {
            source.configureBlocking(false);
            source.register(selector, SelectionKey.OP_READ);
            System.out.println("- selector " + selector.selectNow());
        }
        UnixDomainSocketAddress address = UnixDomainSocketAddress.of(directory.resolve("socket"));
        try (var server = ServerSocketChannel.open(StandardProtocolFamily.UNIX).bind(address)) {
            System.out.println("- local " + SocketChannel.open(address).isConnected());
        }
        System.out.println("- address " + InetAddress.getLoopbackAddress());
        CountDownLatch latch = new CountDownLatch(1);
        new Timer(true).schedule(new TimerTask() { public void run() { latch.countDown(); } }, 1);
        latch.await();
        System.out.println("- random " + (new java.security.SecureRandom().nextInt(1) == 0));
        System.out.println("end");
    }
}
