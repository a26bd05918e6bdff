// What the halves of one launch hand over by (relay.cuh), as the host sees it.
#pragma once

namespace lrengine::cuda {

// All zero before the launch and again when it has ended. A launch may begin while the one ahead of it ends, so that
// two in a row need counters of their own.
struct RelayCounters {
    unsigned claimed;  // parts of the first half that blocks have taken, refused requests included
    unsigned done;     // parts that are complete
    unsigned left;     // blocks that will not look at the counters again
    unsigned unused[5];
};

// The first half of a launch as parts; a block takes one at a time.
struct RelayPlan {
    RelayCounters* counters;
    int parts;
};

}  // namespace lrengine::cuda
