import java.io.*;
import java.math.*;
import java.util.*;
import java.util.function.*;
import java.util.stream.*;

public class Main {
    record P(int x, int y) {}
    enum E { A, B }
    sealed interface S permits T {}
    record T(int v) implements S {}
    static <K> Map<K, Integer> count(List<K> l) { Map<K, Integer> m = new HashMap<>(); for (K k : l) m.merge(k, 1, Integer::sum); return m; }
    static int sw(S s) { return switch (s) { case T(int v) when v > 0 -> v; case T t -> -1; }; }
    public static void main(String[] args) throws Exception {
        BufferedReader br = new BufferedReader(new InputStreamReader(System.in));
        StringTokenizer st = new StringTokenizer(br.readLine());
        Scanner in = new Scanner("5 6 a 2.5\nrest");
        long a = in.nextLong() + in.nextInt() + Long.parseLong(st.nextToken()); in.next(); in.nextDouble(); in.nextLine(); in.nextLine();
        StreamTokenizer tok = new StreamTokenizer(new StringReader("1 2")); tok.nextToken();
        PrintWriter pw = new PrintWriter(new BufferedWriter(new OutputStreamWriter(System.out)));
        List<Integer> l = new ArrayList<>(IntStream.range(0, 10).boxed().collect(Collectors.toList()));
        Collections.sort(l, (p, q) -> q - p); l.sort(Comparator.comparing((Integer i) -> -i).thenComparing(i -> i));
        Map<String, List<Integer>> g = l.stream().filter(i -> i > 2).collect(Collectors.groupingBy(i -> "k" + i % 3, TreeMap::new, Collectors.toList()));
        PriorityQueue<long[]> pq = new PriorityQueue<>((p, q) -> Long.compare(p[0], q[0])); pq.add(new long[]{1}); pq.poll();
        ArrayDeque<Integer> dq = new ArrayDeque<>(); dq.add(1); LinkedList<Integer> ll = new LinkedList<>(); ll.add(1);
        TreeMap<Integer, Integer> tm = new TreeMap<>(); tm.put(1, 2); tm.floorKey(1); TreeSet<Integer> ts = new TreeSet<>(); ts.add(1); HashSet<String> hs = new HashSet<>(); hs.add("x"); LinkedHashMap<Integer,Integer> lm = new LinkedHashMap<>(); lm.put(1,1);
        BitSet bs = new BitSet(10); bs.set(1); Random r = new Random(); r.nextInt(5);
        int[] arr = {3, 1, 2}; Arrays.sort(arr); Arrays.fill(arr, 1); Integer[] ia = {3, 1}; Arrays.sort(ia, Collections.reverseOrder());
        BigInteger b = BigInteger.TWO.pow(100).mod(BigInteger.valueOf(7)); BigDecimal d = new BigDecimal("1.5").setScale(3, RoundingMode.HALF_UP);
        pw.println(String.format("%d %.3f %s %5d", a, 1.5, g, 4)); System.out.printf("%d%n", 5); pw.println(l.stream().map(String::valueOf).collect(Collectors.joining(" ")));
        StringBuilder sb = new StringBuilder(); sb.append(1).append('c').append(2.5).reverse(); pw.println(sb + " " + new P(1, 2) + E.A + sw(new T(1)) + count(l) + b + d + Arrays.toString(arr) + "x".repeat(3) + "a b".split(" ").length + "a,b".split("[,]").length);
        Optional<Integer> o = l.stream().max(Integer::compare); Function<Integer, Integer> f = x -> x + 1; pw.println(f.apply(o.get())); Thread t = new Thread(() -> {}); t.start(); t.join();
        try { Object n = null; n.toString(); } catch (NullPointerException e) { StringWriter sw = new StringWriter(); e.printStackTrace(new PrintWriter(sw)); }
        pw.flush();
    }
}
