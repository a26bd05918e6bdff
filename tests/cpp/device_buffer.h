// Device memory of a test, freed with it. Without a device that works, data() is null and fetch() gives zeros.
#pragma once

#include <cuda_runtime.h>

#include <vector>

template <typename T>
class DeviceBuffer {
public:
    explicit DeviceBuffer(std::size_t count) : count_(count) {
        void* memory = nullptr;
        if (cudaMalloc(&memory, count * sizeof(T)) == cudaSuccess) data_ = static_cast<T*>(memory);
    }
    explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) { assign(values); }
    ~DeviceBuffer() { cudaFree(data_); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;

    void assign(const std::vector<T>& values) {
        cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
    }
    std::vector<T> fetch() const {
        std::vector<T> values(count_);
        cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
        return values;
    }
    T* data() const { return data_; }

private:
    T* data_ = nullptr;
    std::size_t count_;
};
