// What C++ programs usually take of libstdc++, beside what is in usual.c: archives.sh keeps what this one is linked with. Never run.
#include <bits/stdc++.h>

using namespace std;

extern "C" const void *const usual[];

template <typename Number> void number_and_text(const string &text) {
    Number number{};
    istringstream(text) >> number;
    cin >> number;
    cout << number << setw(3) << fixed << setprecision(2) << hex << number << boolalpha << endl;
    cout << to_string(number);
    char room[64];
    auto [end, error] = to_chars(room, room + sizeof room, number);
    from_chars(room, end, number);
}

struct Base {
    virtual ~Base() = default;
};
struct Derived : virtual Base {};

void text(string line) {
    getline(cin, line);
    istringstream in(line);
    ostringstream out;
    stringstream both(line, ios::in | ios::out);
    ifstream from(line);
    ofstream to(line);
    fstream there(line);
    from >> line, to << line, there << line.c_str(), both << quoted(line), out << line[0];
    cerr << line << clog.rdbuf() << out.str() << stoi(line) << stol(line) << stoll(line) << stoull(line) << stod(line) << stold(line);
    line.append(line, 1, 2).insert(1, line).replace(0, 1, line).erase(1);
    cout << line.find(line, 1) << line.rfind('x') << line.find_first_of(line) << line.find_last_not_of(line) << line.compare(line);
    cin.ignore(numeric_limits<streamsize>::max(), '\n');
    cin.get(), cin.peek(), cin.unget(), cin.read(&line[0], 1), cin.putback('x'), cin.tie(nullptr), cin.exceptions(ios::failbit);
    ios::sync_with_stdio(false);
    cout << put_time(localtime(nullptr), "%F") << bitset<8>(3) << ios::internal << complex<double>(1, 2) << flush;
    wstring wide(3, L'x');
    wcout << wide;
    cout.imbue(locale(""));
    cout << hash<string>()(line) << hash<double>()(1);
    regex_match(line, regex("a+b"));
}

void containers() {
    map<int, string> tree;
    unordered_map<string, vector<int>> table;
    set<pair<int, int>> sorted;
    list<int> listed{2, 1};
    deque<int> queue_of;
    tree[1], table["x"].at(1), sorted.insert({1, 2}), listed.sort(), queue_of.push_back(1);
    priority_queue<long> heap;
    heap.push(1);
    vector<int> many(3);
    stable_sort(many.begin(), many.end());
    bitset<100> bits(string("x"));
    bits.test(200);
    any_cast<int>(any(1));
    get<int>(variant<int, string>());
    optional<int>().value();
    function<int(int)>()(1);
    shared_ptr<Base> shared = make_shared<Derived>();
    dynamic_pointer_cast<Derived>(shared);
    weak_ptr<Base>(shared).lock();
    shared_ptr<Base>{weak_ptr<Base>(shared)};
    cout << typeid(*shared).name() << stack<int>().size();
    dynamic_cast<Derived &>(*shared);
    auto aligned = new (align_val_t(64)) char[64];
    operator delete[](aligned, align_val_t(64));
    delete new (nothrow) int;
    pmr::monotonic_buffer_resource pool;
    pmr::vector<int>(&pool).resize(3);
    pmr::unsynchronized_pool_resource().allocate(1);
}

void threads() {
    mutex lock;
    condition_variable ready;
    once_flag once;
    thread([&] { lock_guard<mutex> guard(lock); ready.notify_all(); }).join();
    unique_lock<mutex> held(lock);
    ready.wait(held);
    ready.wait_for(held, chrono::milliseconds(1));
    call_once(once, [] {});
    cout << async(launch::async, [] { return 1; }).get() << thread::hardware_concurrency() << this_thread::get_id();
    promise<int>().get_future().wait();
    this_thread::sleep_for(chrono::milliseconds(1));
    atomic<int>()++;
    shared_mutex().lock_shared();
}

void errors() {
    try {
        throw runtime_error("x");
    } catch (const exception &error) {
        cerr << error.what();
        rethrow_exception(current_exception());
    }
    switch (errno) {
    case 1: throw logic_error("x");
    case 2: throw invalid_argument("x");
    case 3: throw out_of_range("x");
    case 4: throw overflow_error("x");
    case 5: throw domain_error("x");
    case 6: throw length_error("x");
    case 7: throw system_error(error_code());
    case 8: throw bad_alloc();
    case 9: throw underflow_error("x");
    case 10: throw range_error("x");
    }
    set_terminate(abort);
    terminate();
}

int main() {
    number_and_text<int>(""), number_and_text<long>(""), number_and_text<unsigned>(""), number_and_text<unsigned long>(""), number_and_text<double>(""), number_and_text<float>("");
    number_and_text<long double>(""), number_and_text<long long>("");
    text(""), containers(), threads(), errors();
    cout << chrono::steady_clock::now().time_since_epoch().count() << chrono::system_clock::now().time_since_epoch().count();
    cout << chrono::high_resolution_clock::now().time_since_epoch().count() << random_device()() << mt19937_64(1)();
    return usual[0] != nullptr;
}
