#include <bits/stdc++.h>
using namespace std;

int main() {
    ios::sync_with_stdio(false);
    cin.tie(nullptr);
    int n;
    cin >> n;
    vector<long long> values(n);
    map<long long, int> count;
    for (auto& value : values) {
        cin >> value;
        count[value]++;
    }
    sort(values.begin(), values.end());
    cout << accumulate(values.begin(), values.end(), 0LL) << ' ' << values[n / 2] << ' ' << count.size() << '\n';
}
