#include <bits/stdc++.h>
using namespace std;

int main() {
    int n;
    cin >> n;
    auto future = async(launch::async, [n] { return n * n; });
    mutex lock;
    condition_variable changed;
    bool done = false;
    thread other([&] {
        lock_guard held(lock);
        done = true;
        changed.notify_all();
    });
    {
        unique_lock held(lock);
        changed.wait(held, [&] { return done; });
    }
    other.join();
    once_flag once;
    int square = 0;
    call_once(once, [&] { square = future.get(); });
    cout << square << endl;
}
