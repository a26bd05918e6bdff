// Error codes as the exception classes of lrengine.errors.
#pragma once

namespace lrengine::bindings {

void register_errors();

}  // namespace lrengine::bindings
