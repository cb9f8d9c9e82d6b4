public class Main {
    public static void main(String[] args) {
        int number = "this is not a number";
    }
}
