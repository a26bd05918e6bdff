// Whether a thread that was started is still there: fork() leaves a child with the calling thread alone.
#pragma once

namespace lrengine {

// How many forks lie between the first process that asked and this one. Threads of an older count are another
// process's.
unsigned forks_so_far();

}  // namespace lrengine
