#pragma once

#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

// A variable of the environment, for a while.
class Setting {
public:
    Setting(const char* name, const std::string& value) : name_(name) {
        if (const char* old = std::getenv(name)) old_ = old;
        setenv(name, value.c_str(), 1);
    }
    ~Setting() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

private:
    const char* name_;
    std::optional<std::string> old_;
};

// While this is there a process of root's is nobody's: root may read every file.
class Nobody {
public:
    Nobody() : was_root_(::geteuid() == 0) {
        if (was_root_ && ::seteuid(65534) != 0) std::abort();
    }
    ~Nobody() {
        if (was_root_ && ::seteuid(0) != 0) std::abort();
    }
    Nobody(const Nobody&) = delete;
    Nobody& operator=(const Nobody&) = delete;

private:
    bool was_root_;
};
