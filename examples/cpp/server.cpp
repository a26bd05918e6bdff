// The skeleton of a server: one engine, a few worker threads, a bounded queue, a deadline for each request, and an
// orderly end. A connection sends lines (sources) and gets a line for each, in order; "! REASON" where one failed.
//     server MODEL [PORT] [WORKERS]         PORT 0: any free one; it is printed. Ends on SIGINT or SIGTERM.
// It listens on the loopback address only: what faces a network needs limits and encryption that are not here.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <future>
#include <iostream>
#include <list>
#include <mutex>
#include <thread>

#include "lines.h"

namespace {

volatile std::sig_atomic_t stopping = 0;

struct Job {
    std::string line;
    std::promise<std::string> answer;
};

// Jobs that wait for a worker. When it is full, push() refuses: better a quick no than a queue that only grows.
class Queue {
public:
    bool push(Job job) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (closed_ || jobs_.size() >= kMost) return false;
        jobs_.push_back(std::move(job));
        ready_.notify_one();
        return true;
    }
    bool pop(Job& job) {
        std::unique_lock<std::mutex> lock(mutex_);
        ready_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
        if (jobs_.empty()) return false;
        job = std::move(jobs_.front());
        jobs_.pop_front();
        return true;
    }
    void close() {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
        ready_.notify_all();
    }

private:
    static constexpr std::size_t kMost = 256;
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Job> jobs_;
    bool closed_ = false;
};

void work(const lrengine::Engine& engine, const lrengine::Cancellation& cancellation, Queue& queue) {
    const lrengine::EngineInfo info = engine.info();
    lrengine::GenerateOptions options;
    options.max_new_tokens = 64;
    lrengine::Limits limits;
    limits.deadline = std::chrono::seconds(30);
    limits.cancellation = &cancellation;
    for (Job job; queue.pop(job);) {
        const std::vector<lrengine::Input> inputs = {input_of(job.line, info.reads_source_text)};
        const auto found = engine.try_generate(inputs, options, limits);
        job.answer.set_value(found ? text_of((*found)[0], info.writes_text) : "! " + found.message());
    }
}

bool send_all(int connection, const std::string& text) {
    for (std::size_t sent = 0; sent < text.size();) {
        const ssize_t count = ::send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
        if (count <= 0) return false;
        sent += static_cast<std::size_t>(count);
    }
    return true;
}

bool answer_lines(int connection, std::string& received, Queue& queue) {
    for (std::size_t end = received.find('\n'); end != std::string::npos; end = received.find('\n')) {
        Job job{received.substr(0, end), {}};
        received.erase(0, end + 1);
        std::future<std::string> answer = job.answer.get_future();
        const std::string text = queue.push(std::move(job)) ? answer.get() : "! busy";
        if (!send_all(connection, text + "\n")) return false;
    }
    return true;
}

void serve(int connection, Queue& queue) {
    constexpr std::size_t kLongestLine = 1 << 20;
    std::string received;
    char buffer[4096];
    while (stopping == 0 && received.size() < kLongestLine) {
        pollfd waiting{connection, POLLIN, 0};
        if (::poll(&waiting, 1, 200) <= 0) continue;
        const ssize_t count = ::recv(connection, buffer, sizeof buffer, 0);
        if (count <= 0) break;
        received.append(buffer, static_cast<std::size_t>(count));
        if (!answer_lines(connection, received, queue)) break;
    }
    ::close(connection);
}

// A listening socket on the loopback address; prints its port.
int listen_on(int port) {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    socklen_t size = sizeof address;
    if (listener < 0 || ::bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener, 16) != 0 || ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        std::perror("listen");
        std::exit(1);
    }
    std::cout << "listening on 127.0.0.1:" << ntohs(address.sin_port) << std::endl;
    return listener;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " MODEL [PORT] [WORKERS]\n";
        return 2;
    }
    std::signal(SIGINT, [](int) { stopping = 1; });
    std::signal(SIGTERM, [](int) { stopping = 1; });
    const lrengine::Engine engine(argv[1]);
    engine.check_weights();  // before it says that it listens, not in the first request
    lrengine::Cancellation cancellation;
    Queue queue;
    std::vector<std::thread> workers;
    std::list<std::future<void>> connections;
    for (int i = 0; i < (argc > 3 ? std::atoi(argv[3]) : 2); ++i) {
        workers.emplace_back([&] { work(engine, cancellation, queue); });
    }
    const int listener = listen_on(argc > 2 ? std::atoi(argv[2]) : 0);
    while (stopping == 0) {
        pollfd waiting{listener, POLLIN, 0};
        connections.remove_if([](const std::future<void>& one) {
            return one.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
        });
        if (::poll(&waiting, 1, 200) <= 0) continue;
        const int connection = ::accept(listener, nullptr, nullptr);
        if (connection < 0) continue;
        connections.push_back(std::async(std::launch::async, [&queue, connection] { serve(connection, queue); }));
    }
    ::close(listener);
    cancellation.request();  // what is being generated ends before its next token
    queue.close();
    for (std::thread& worker : workers) worker.join();
    connections.clear();  // waits for each
    std::cout << "stopped" << std::endl;
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
