import java.io.IOException;
import java.net.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.nio.file.attribute.*;

/** The same as sockets.c and places.c for what Java offers. */
public class Main {
    interface Attempt { Object make() throws Exception; }

    static void attempt(String name, Attempt attempt) {
        try {
            System.out.println("+ " + name + " " + attempt.make());
        } catch (Throwable error) {
            System.out.println("- " + name + " " + error.getClass().getSimpleName());
        }
    }

    static Object connect(String host, int port) throws IOException {
        Socket socket = new Socket();
        socket.connect(new InetSocketAddress(host, port), 2000);
        return socket;
    }

    static Object write(String path) throws IOException {
        return Files.writeString(Path.of(path), "1", StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    }

    public static void main(String[] arguments) {
        attempt("server-socket", () -> new ServerSocket(0));
        attempt("server-channel", () -> ServerSocketChannel.open().bind(null));
        attempt("datagram", () -> new DatagramSocket());
        attempt("multicast", () -> new MulticastSocket(5353));
        attempt("interfaces", () -> NetworkInterface.getNetworkInterfaces().nextElement());
        attempt("redis", () -> connect("127.0.0.1", 6379));
        attempt("kafka", () -> connect("127.0.0.1", 9092));
        attempt("metadata", () -> connect("169.254.169.254", 80));
        attempt("url", () -> new URI("http://169.254.169.254/latest/meta-data").toURL().openStream());
        attempt("name", () -> InetAddress.getByName("redis"));
        attempt("docker.sock", () -> SocketChannel.open(UnixDomainSocketAddress.of("/var/run/docker.sock")));
        attempt("runner-memory", () -> Files.newByteChannel(Path.of("/proc/1/mem")));
        attempt("runner-environment", () -> Files.readAllBytes(Path.of("/proc/1/environ")));
        attempt("kill-runner", () -> ProcessHandle.of(1).get().destroyForcibly() ? true : refuse());
        attempt("write-root", () -> write("/x"));
        attempt("write-box", () -> write("/box/x"));
        attempt("write-core-pattern", () -> write("/proc/sys/kernel/core_pattern"));
        attempt("setuid-file", () -> runs("su", "-c", "id"));
        attempt("mount", () -> runs("mount", "-t", "tmpfs", "none", "/tmp"));
        attempt("unshare", () -> runs("unshare", "-r", "id"));
        attempt("chroot", () -> runs("chroot", "/tmp", "id"));
        System.out.println("end");
    }

    static Object refuse() { throw new IllegalStateException(); }

    static Object runs(String... command) throws Exception {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        process.getOutputStream().close();
        process.getInputStream().readAllBytes();
        return process.waitFor() == 0 ? true : refuse();
    }
}
