// What honest C++ programs use of the kernel.
#include <bits/stdc++.h>
#include <fcntl.h>
#include <semaphore.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char **environ;

static void processes() {
    int ends[2], status = -1;
    pid_t child;
    char *echo[] = {(char *)"true", nullptr};
    if (pipe(ends) == 0 && fork() == 0)
        _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
    char got;
    std::cout << "- fork " << read(ends[0], &got, 1) << got << std::endl;
    std::cout << "- spawn " << posix_spawnp(&child, "true", nullptr, nullptr, echo, environ) << std::endl;
    while (waitpid(-1, &status, 0) > 0)
        std::cout << "- status " << status << std::endl;
    std::cout << "- system " << std::system("exit 3") / 256 << std::endl;
}

int main() {
    std::thread([] { std::cout << "- thread" << std::endl; }).join();
    std::cout << "- async " << std::async(std::launch::async, [] { return 5; }).get() << std::endl;
    processes();
    std::string name = "/honest" + std::to_string(getpid());
    sem_t *semaphore = sem_open(name.c_str(), O_CREAT, 0600, 1);
    std::cout << "- semaphore " << (semaphore != SEM_FAILED && sem_wait(semaphore) == 0) << std::endl;
    void *shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    std::cout << "- shared " << (shared != MAP_FAILED) << std::endl;
    auto directory = std::filesystem::temp_directory_path() / name.substr(1);
    std::filesystem::create_directory(directory);
    std::ofstream(directory / "a") << 1;
    std::filesystem::copy_file(directory / "a", directory / "b");
    std::cout << "- files " << std::filesystem::file_size(directory / "b") << std::endl;
    std::cout << "- clock " << (std::chrono::steady_clock::now().time_since_epoch().count() > 0) << std::endl;
    std::cout << "- random " << (std::random_device()() >= 0) << std::endl;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::cout << "end" << std::endl;
}
