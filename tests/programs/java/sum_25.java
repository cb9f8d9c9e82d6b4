void main() {
    var in = new Scanner(System.in);
    while (in.hasNextLong()) {
        IO.println(in.nextLong() + in.nextLong());
    }
}
