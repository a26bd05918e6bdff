// cuBLASLt behind MatmulLibrary. Its matrices are column-major: a row-major out = x W^T is its out' = W x', with W and
// x as they lie and W marked as transposed.
#if !defined(LRENGINE_CUDA_EMULATION)

#include "cuda/matmul_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/cublaslt_api.h"
#include "cuda/status.h"

namespace lrengine::cuda {

namespace {

using namespace cublaslt;

constexpr std::size_t kWorkspaceBytes = 8 << 20;  // a stream
constexpr std::uint32_t kAlignment = 16;          // of every matrix and row that callers hand in, bytes
constexpr std::size_t kMaxPlans = 4096;           // kept; then begun anew

void check_library(Status status, const char* what) {
    if (status != 0) fail(ErrorCode::kDevice, std::string("cuBLASLt: ") + what + ": status " + std::to_string(status));
}

int real_type(DType dtype) {
    return dtype == DType::kBFloat16 ? kReal16BF : dtype == DType::kFloat16 ? kReal16F : kReal32F;
}

std::uint32_t epilogue_of(Activation activation, bool bias) {
    const std::uint32_t function = activation == Activation::kRelu       ? kEpilogueRelu
                                   : activation == Activation::kGeluTanh ? kEpilogueGelu
                                                                         : 0;
    const std::uint32_t both = function | (bias ? kEpilogueBias : 0);
    return both == 0 ? kEpilogueDefault : both;
}

// One of the library's objects.
class Object {
public:
    Object() = default;
    Object(void* object, Status (*destroy)(void*)) : object_(object), destroy_(destroy) {}
    Object(Object&& other) noexcept : object_(other.object_), destroy_(other.destroy_) { other.object_ = nullptr; }
    Object& operator=(Object&& other) noexcept {
        std::swap(object_, other.object_);
        std::swap(destroy_, other.destroy_);
        return *this;
    }
    ~Object() {
        if (object_ != nullptr) destroy_(object_);
    }
    void* get() const { return object_; }

private:
    void* object_ = nullptr;
    Status (*destroy_)(void*) = nullptr;
};

// What an algorithm is chosen by: K, N, M, strides of x and out, types of both, epilogue.
using Shape =
    std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, DType, DType, std::uint32_t>;

Shape shape_of(const MatmulArgs& args) {
    return {args.weight.cols, args.weight.rows, args.x.rows,    args.x.stride,
            args.out.stride,  args.x.dtype,     args.out.dtype, epilogue_of(args.activation, bool{args.bias})};
}

struct Plan {
    Object weight, x, out;
    Algorithm algorithm;
};

class CublasLt final : public MatmulLibrary {
public:
    CublasLt(void* library, const Api& api) : library_(library), api_(api) {
        check_library(api_.create(&handle_), "create");
    }

    ~CublasLt() override {
        plans_.clear();
        for (const auto& [stream, workspace] : workspaces_) cudaFree(workspace);
        api_.destroy(handle_);
        dlclose(library_);
    }

    // cuBLASLt has ReLU and GELU too, but says neither how exact its tanh is nor that a NaN stays one.
    bool fuses(Activation activation) const override { return activation == Activation::kNone; }

    void run(const MatmulArgs& args, cudaStream_t stream) override {
        const Object description = describe(args);
        std::shared_ptr<const Plan> plan;
        void* workspace = nullptr;
        {
            const std::lock_guard lock(mutex_);
            plan = plan_for(args, description);
            workspace = workspace_for(stream);
        }
        const float alpha = 1.0f, beta = args.accumulate ? 1.0f : 0.0f;
        check_library(api_.matmul(handle_, description.get(), &alpha, args.weight.data, plan->weight.get(), args.x.data,
                                  plan->x.get(), &beta, args.out.data, plan->out.get(), args.out.data, plan->out.get(),
                                  &plan->algorithm, workspace, kWorkspaceBytes, stream),
                      "matmul");
    }

private:
    // Of its own for each call: it carries the pointer to the bias.
    Object describe(const MatmulArgs& args) const {
        void* made = nullptr;
        check_library(api_.desc_create(&made, kCompute32F, kReal32F), "matmul description");
        Object description(made, api_.desc_destroy);
        const auto set = [&](int attribute, const auto& value) {
            check_library(api_.desc_set(made, attribute, &value, sizeof(value)), "matmul attribute");
        };
        set(kTransA, kTransposed);
        set(kEpilogue, epilogue_of(args.activation, bool{args.bias}));
        if (args.bias) {
            set(kBiasPointer, args.bias.data);
            set(kBiasDataType, std::int32_t{kReal32F});
        }
        return description;
    }

    Object layout(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t leading) const {
        void* made = nullptr;
        check_library(api_.layout_create(&made, real_type(dtype), static_cast<std::uint64_t>(rows),
                                         static_cast<std::uint64_t>(cols), leading),
                      "matrix layout");
        return {made, api_.layout_destroy};
    }

    std::shared_ptr<const Plan> plan_for(const MatmulArgs& args, const Object& description) {
        const Shape shape = shape_of(args);
        if (const auto known = plans_.find(shape); known != plans_.end()) return known->second;
        if (plans_.size() >= kMaxPlans) plans_.clear();
        auto plan = std::make_shared<Plan>();
        plan->weight = layout(args.weight.dtype, args.weight.cols, args.weight.rows, args.weight.cols);
        plan->x = layout(args.x.dtype, args.x.cols, args.x.rows, args.x.stride);
        plan->out = layout(args.out.dtype, args.out.cols, args.out.rows, args.out.stride);
        plan->algorithm = choose(*plan, description);
        return plans_.emplace(shape, std::move(plan)).first->second;
    }

    Algorithm choose(const Plan& plan, const Object& description) const {
        void* made = nullptr;
        check_library(api_.preference_create(&made), "preference");
        const Object preference(made, api_.preference_destroy);
        const auto set = [&](int attribute, const auto& value) {
            check_library(api_.preference_set(made, attribute, &value, sizeof(value)), "preference attribute");
        };
        set(kMaxWorkspaceBytes, kWorkspaceBytes);
        for (const int matrix : {kMinAlignmentA, kMinAlignmentB, kMinAlignmentC, kMinAlignmentD}) {
            set(matrix, kAlignment);
        }
        HeuristicResult result{};
        int found = 0;
        check_library(api_.heuristic(handle_, description.get(), plan.weight.get(), plan.x.get(), plan.out.get(),
                                     plan.out.get(), made, 1, &result, &found),
                      "choice of an algorithm");
        if (found == 0) fail(ErrorCode::kDevice, "cuBLASLt: no algorithm for this product");
        check_library(result.state, "choice of an algorithm");
        return result.algorithm;
    }

    void* workspace_for(cudaStream_t stream) {
        void*& workspace = workspaces_[stream];
        if (workspace == nullptr) check(cudaMalloc(&workspace, kWorkspaceBytes), "workspace of the matrix library");
        return workspace;
    }

    void* library_;
    Api api_;
    Handle handle_ = nullptr;
    std::mutex mutex_;
    std::map<Shape, std::shared_ptr<const Plan>> plans_;
    std::map<cudaStream_t, void*> workspaces_;
};

template <typename Function>
void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) fail(ErrorCode::kDevice, std::string("cuBLASLt has no ") + name);
}

Api find_api(void* library) {
    Api api{};
    find(library, "cublasLtCreate", api.create);
    find(library, "cublasLtDestroy", api.destroy);
    find(library, "cublasLtMatmulDescCreate", api.desc_create);
    find(library, "cublasLtMatmulDescDestroy", api.desc_destroy);
    find(library, "cublasLtMatmulDescSetAttribute", api.desc_set);
    find(library, "cublasLtMatrixLayoutCreate", api.layout_create);
    find(library, "cublasLtMatrixLayoutDestroy", api.layout_destroy);
    find(library, "cublasLtMatmulPreferenceCreate", api.preference_create);
    find(library, "cublasLtMatmulPreferenceDestroy", api.preference_destroy);
    find(library, "cublasLtMatmulPreferenceSetAttribute", api.preference_set);
    find(library, "cublasLtMatmulAlgoGetHeuristic", api.heuristic);
    find(library, "cublasLtMatmul", api.matmul);
    return api;
}

void* open_library() {
    const char* wanted = std::getenv("LRENGINE_CUBLASLT");
    std::vector<std::string> names{"libcublasLt.so.13", "libcublasLt.so.12"};
    if (wanted != nullptr && *wanted != '\0') names = {wanted};
    std::string tried;
    for (const std::string& name : names) {
        if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
        const char* reason = dlerror();
        tried += "; " + (reason != nullptr ? std::string(reason) : name + ": not loaded");
    }
    fail(ErrorCode::kDevice, "cuBLASLt was not found; LRENGINE_CUBLASLT may name its file" + tried);
}

}  // namespace

std::unique_ptr<MatmulLibrary> load_matmul_library() {
    void* library = open_library();
    return std::make_unique<CublasLt>(library, find_api(library));
}

}  // namespace lrengine::cuda

#endif  // LRENGINE_CUDA_EMULATION
