// What this build's kernels were compiled for.
#pragma once

namespace lrengine::cuda {

// Whether the kernels that a device of this compute capability (90 for 9.0) runs know how to wait for the ones before
// them: compiled for 9.0 or later. Those of 8.x do not, also where a later device translates them for itself.
bool kernels_wait(int capability);

}  // namespace lrengine::cuda
