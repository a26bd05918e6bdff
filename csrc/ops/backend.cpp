#include "ops/backend.h"

#include "core/error.h"

namespace lrengine {

void Backend::project_top_k(const ProjectTopKArgs&) {
    fail(ErrorCode::kInternal, device() + ": project_top_k is not there; linear() and top_k() are");
}

void Backend::repeat(std::uint64_t, const std::function<void()>& ops) { ops(); }

std::shared_ptr<Backend> session_backend(const std::shared_ptr<Backend>& backend) {
    std::shared_ptr<Backend> fork = backend->fork();
    return fork ? fork : backend;
}

}  // namespace lrengine
