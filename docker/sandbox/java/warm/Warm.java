import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StreamTokenizer;
import java.util.*;
import java.util.stream.*;

/** Uses what programs use most, so that it is loaded and linked. Makes no thread, opens no file and draws no random number. */
public class Warm {
    private static final int ROUNDS = 3;

    public static void run() throws Exception {
        try {
            ClassLoader.getSystemClassLoader().loadClass("no.such.Class");
        } catch (ClassNotFoundException expected) {
            expected.printStackTrace(new PrintStream(new ByteArrayOutputStream()));
        }
        Warm.class.getMethod("run").getParameterCount();
        for (int i = 0; i < ROUNDS; i++) {
            once();
        }
    }

    private static void once() throws Exception {
        byte[] input = "3\n1 2 3\n4.5 word\n".getBytes();
        BufferedReader in = new BufferedReader(new InputStreamReader(new ByteArrayInputStream(input)));
        int n = Integer.parseInt(in.readLine().trim());
        StringTokenizer words = new StringTokenizer(in.readLine());
        List<Long> values = new ArrayList<>();
        Map<Long, Integer> count = new HashMap<>();
        long sum = 0;
        for (int i = 0; i < n; i++) {
            long value = Long.parseLong(words.nextToken());
            values.add(value);
            count.merge(value, 1, Integer::sum);
            sum += value;
        }
        Collections.sort(values);
        values.sort(Comparator.comparing(Long::intValue));
        values.sort((a, b) -> Long.compare(b, a));
        PrintStream out = new PrintStream(new ByteArrayOutputStream());
        out.println(sum + " " + values.get(n / 2) + " " + count.size());
        out.printf("%d %.3f %s%n", sum, 1.5, "x");
        PrintWriter writer = new PrintWriter(new BufferedWriter(new OutputStreamWriter(out)));
        writer.println(new StringBuilder("x").append(1).append('c').append(2.5).reverse());
        writer.flush();
        try (Scanner scanner = new Scanner(new ByteArrayInputStream(input))) {
            sum += scanner.nextInt() + scanner.nextLong();
            scanner.nextLine();
            sum += scanner.hasNext() ? scanner.next().length() : 0;
        }
        StreamTokenizer tokens = new StreamTokenizer(in);
        tokens.nextToken();
        int[] numbers = {3, 1, 2};
        Arrays.sort(numbers);
        Arrays.sort(new Integer[] {3, 1, 2}, Collections.reverseOrder());
        Arrays.fill(new long[8], 1);
        ArrayDeque<Integer> queue = new ArrayDeque<>(List.of(1, 2, 3));
        PriorityQueue<int[]> heap = new PriorityQueue<>((a, b) -> a[0] - b[0]);
        heap.add(numbers);
        heap.add(new int[] {1});
        heap.poll();
        TreeMap<String, Integer> tree = new TreeMap<>(Map.of("a", 1, "b", 2));
        TreeSet<Integer> set = new TreeSet<>(queue);
        Set<Integer> seen = new HashSet<>(set);
        new LinkedList<>(seen).size();
        new LinkedHashMap<>(tree).forEach((key, value) -> queue.add(value));
        out.println(IntStream.range(0, n).mapToObj(Integer::toString).collect(Collectors.joining(" ")));
        out.println(Arrays.stream("1 2 3".split(" ")).map(Integer::valueOf).filter(x -> x > 1).collect(Collectors.toList()));
        out.println(Arrays.toString(numbers) + queue + tree + set + String.join(",", tree.keySet()) + new BitSet(9));
        out.println(new java.math.BigInteger("123456789").multiply(java.math.BigInteger.TEN).mod(java.math.BigInteger.valueOf(7)));
        out.println(Math.max(1, 2) + Math.sqrt(2) + Math.abs(-1) + Math.pow(2, 3));
        out.println("Word".toLowerCase().indexOf("r") + "abc".substring(1).replace('b', 'c') + "x".repeat(3) + "a".compareTo("b"));
    }
}
