#include <utility>

#include "runtime/engine.h"

namespace lrengine {

Session::Session(std::shared_ptr<const void> owner, std::unique_ptr<Search> search)
    : owner_(std::move(owner)), search_(std::move(search)) {}

void Session::step() {
    if (search_) search_->step();
}

void Session::cancel() {
    if (search_) search_->cancel();
}

std::vector<std::vector<Hypothesis>> Session::results() const {
    return search_ ? search_->results() : std::vector<std::vector<Hypothesis>>{};
}

}  // namespace lrengine
