// ONNX Runtime's C API with owners and exceptions.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ort {

inline const OrtApi& api() {
    static const OrtApi* const found = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (found == nullptr) {
        throw std::runtime_error(std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                                 " is older than the header that this program was compiled with");
    }
    return *found;
}

inline void check(OrtStatus* status) {
    if (status == nullptr) return;
    const std::string message = api().GetErrorMessage(status);
    api().ReleaseStatus(status);
    throw std::runtime_error(message);
}

struct ReleaseEnv {
    void operator()(OrtEnv* object) const { api().ReleaseEnv(object); }
};
struct ReleaseSession {
    void operator()(OrtSession* object) const { api().ReleaseSession(object); }
};
struct ReleaseOptions {
    void operator()(OrtSessionOptions* object) const { api().ReleaseSessionOptions(object); }
};
struct ReleaseMemory {
    void operator()(OrtMemoryInfo* object) const { api().ReleaseMemoryInfo(object); }
};
struct ReleaseValue {
    void operator()(OrtValue* object) const { api().ReleaseValue(object); }
};
using Value = std::unique_ptr<OrtValue, ReleaseValue>;

// A tensor in memory of the caller's, which outlives it.
inline Value tensor(void* data, std::size_t bytes, const std::vector<std::int64_t>& shape,
                    ONNXTensorElementDataType type) {
    static const std::unique_ptr<OrtMemoryInfo, ReleaseMemory> memory = [] {
        OrtMemoryInfo* info = nullptr;
        check(api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info));
        return std::unique_ptr<OrtMemoryInfo, ReleaseMemory>(info);
    }();
    OrtValue* value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(memory.get(), data, bytes, shape.data(), shape.size(), type, &value));
    return Value(value);
}

inline Value tensor(std::vector<std::int64_t>& data, const std::vector<std::int64_t>& shape) {
    return tensor(data.data(), data.size() * sizeof(std::int64_t), shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
}

inline Value tensor(std::vector<float>& data, const std::vector<std::int64_t>& shape) {
    return tensor(data.data(), data.size() * sizeof(float), shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
}

// What a run reads and writes, by name.
struct Tensors {
    std::vector<std::string> names;
    std::vector<Value> values;

    void add(const std::string& name, Value value) {
        names.push_back(name);
        values.push_back(std::move(value));
    }
    std::vector<const char*> name_pointers() const {
        std::vector<const char*> pointers;
        for (const std::string& name : names) pointers.push_back(name.c_str());
        return pointers;
    }
    std::vector<OrtValue*> value_pointers() const {
        std::vector<OrtValue*> pointers;
        for (const Value& value : values) pointers.push_back(value.get());
        return pointers;
    }
};

class Session {
public:
    explicit Session(const std::string& path) {
        static const std::unique_ptr<OrtEnv, ReleaseEnv> env = [] {
            OrtEnv* made = nullptr;
            check(api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "onnx_generate", &made));
            return std::unique_ptr<OrtEnv, ReleaseEnv>(made);
        }();
        OrtSessionOptions* options = nullptr;
        check(api().CreateSessionOptions(&options));
        const std::unique_ptr<OrtSessionOptions, ReleaseOptions> held(options);
        OrtSession* session = nullptr;
        check(api().CreateSession(env.get(), path.c_str(), options, &session));
        session_.reset(session);
    }

    // Outputs that have no value yet get memory of ONNX Runtime's.
    void run(const Tensors& inputs, Tensors& outputs) const {
        const auto input_names = inputs.name_pointers(), output_names = outputs.name_pointers();
        const auto inputs_given = inputs.value_pointers();
        auto written = outputs.value_pointers();
        check(api().Run(session_.get(), nullptr, input_names.data(), inputs_given.data(), inputs_given.size(),
                        output_names.data(), output_names.size(), written.data()));
        for (std::size_t i = 0; i < written.size(); ++i) {
            if (!outputs.values[i]) outputs.values[i].reset(written[i]);
        }
    }

private:
    std::unique_ptr<OrtSession, ReleaseSession> session_;
};

inline std::vector<std::int64_t> shape_of(const Value& value) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api().GetTensorTypeAndShape(value.get(), &info));
    std::size_t rank = 0;
    OrtStatus* status = api().GetDimensionsCount(info, &rank);
    std::vector<std::int64_t> shape(rank);
    if (status == nullptr) status = api().GetDimensions(info, shape.data(), rank);
    api().ReleaseTensorTypeAndShapeInfo(info);
    check(status);
    return shape;
}

template <typename T>
const T* data_of(const Value& value) {
    void* data = nullptr;
    check(api().GetTensorMutableData(value.get(), &data));
    return static_cast<const T*>(data);
}

}  // namespace ort
