#include <utility>

#include "runtime/engine.h"

namespace lrengine {

Session::Session(std::shared_ptr<const Engine> engine, std::unique_ptr<Search> search)
    : engine_(std::move(engine)), search_(std::move(search)) {}

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
