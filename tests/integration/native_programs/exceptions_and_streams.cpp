#include <bits/stdc++.h>
using namespace std;

static struct Early {
    Early() { cout << ""; }
} early;

int main() {
    locale::global(locale("C.UTF-8"));
    int n;
    cin >> n;
    try {
        vector<int>(3).at(n);
    } catch (const out_of_range &) {
        n *= n;
    }
    smatch found;
    string text = "answer=" + to_string(n);
    regex_search(text, found, regex("([0-9]+)$"));
    cout << found[1] << '\n';
}
