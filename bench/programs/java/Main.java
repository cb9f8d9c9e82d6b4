import java.io.*;
import java.util.*;

public class Main {
    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
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
        System.out.println(sum + " " + values.get(n / 2) + " " + count.size());
    }
}
