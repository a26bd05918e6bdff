#include <algorithm>
#include <bit>
#include <vector>

#include "cuda/checks.h"
#include "ops/few_rows_plan.h"

namespace lrengine::cuda {

namespace {

// Loads in flight hide the latency: about 16 warps a processor of four 16-byte loads a lane are 32 KB, what 4.3 TB/s
// times 0.9 microseconds asks of each of 132 processors.
constexpr std::int64_t kWarpsInFlight = 16;

int bucket_of(std::int64_t rows) {
    int bucket = 1;
    while (bucket < rows) bucket *= 2;
    return bucket;
}

Product product_of(const LinearArgs& args) {
    Product product{};
    product.x = packed_view_of(args.x);
    product.out = view_of(args.out);
    product.residual = view_of(args.residual);
    product.weight = args.weight.data;
    product.scales = args.weight.dtype == DType::kInt8 ? args.weight.scales : nullptr;
    product.group_scales = args.weight.group_scales;
    product.group_shift = std::countr_zero(static_cast<unsigned>(args.weight.group_size));
    product.bias = args.bias.data;
    product.rows = static_cast<int>(args.x.rows);
    product.outputs = static_cast<int>(args.weight.rows);
    product.cols = static_cast<int>(args.weight.cols);
    product.activation = args.activation;
    return product;
}

bool same_x(const Product& a, const Product& b) {
    return a.x.matrix.data == b.x.matrix.data && a.x.matrix.stride == b.x.matrix.stride &&
           a.x.matrix.dtype == b.x.matrix.dtype && a.rows == b.rows && a.cols == b.cols;
}

// Rows of an item and of those behind it.
int all_rows(const Products& list, const Product& product) {
    return product.rows + (product.more != 0 ? all_rows(list, list.items[product.more]) : 0);
}

// Whether the same x follow theirs in shared memory.
bool same_more_x(const Products& list, int a, int b) {
    while (a != 0 && b != 0 && same_x(list.items[a], list.items[b])) {
        a = list.items[a].more;
        b = list.items[b].more;
    }
    return a == 0 && b == 0;
}

// Products [0, count) of a list with the same x share what is staged, also where only some have more rows.
void number_inputs(Products& list) {
    for (int i = 0; i < list.count; ++i) {
        Product& product = list.items[i];
        product.more_x = product.more;
        const auto fits = [&](int number) {
            const Product& first = list.items[number];
            const bool is_first = first.x_number == number;
            return is_first && same_x(first, product) &&
                   (first.more_x == 0 || product.more == 0 || same_more_x(list, first.more_x, product.more));
        };
        while (!fits(product.x_number)) ++product.x_number;
        Product& first = list.items[product.x_number];
        if (first.more_x == 0) first.more_x = product.more;
    }
    for (int i = 0; i < list.count; ++i) list.items[i].more_x = list.items[list.items[i].x_number].more_x;
}

// Warps that share an output. Depends on neither M nor x, so that a row's sums are the same bits in any batch of few
// rows: hence the room of 16 rows of x, whatever their number.
int splits_for(std::int64_t groups, std::int64_t chunks, std::int64_t chunk, int processors) {
    const std::int64_t room = kStageBytes / static_cast<std::int64_t>(sizeof(float)) / kFewRows / chunk;
    const std::int64_t wanted = divide_up(processors * kWarpsInFlight, groups);
    const std::int64_t splits = std::min({wanted, chunks, room, std::int64_t{kMaxWarps}});
    return static_cast<int>(divide_up(chunks, divide_up(chunks, splits)));  // no warp without a chunk
}

// Groups of a block. A few rows of x are little to read again: there all processors get blocks. Of more, fewer
// blocks read less from the second-level cache.
int groups_for(std::int64_t groups, int rows, int processors, int room, bool split) {
    if (!split) return room;
    const std::int64_t each = rows <= 4 ? groups / processors : divide_up(groups, processors);
    return static_cast<int>(std::clamp<std::int64_t>(each, 1, room));
}

// Blocks that the device holds at a time, as far as registers and shared memory go.
int resident_blocks(const Device& device, int rows, int warps, std::size_t shared_bytes) {
    const auto fitting = static_cast<int>(device.shared_per_block() / (shared_bytes + 1024));
    return std::clamp(fitting, 1, blocks_per_processor(rows) * kMaxWarps / warps) * device.processors();
}

// Everything but the products. `width`: outputs of a group.
void lay_out(FewRowsPlan& plan, const Device& device, DType type, int width, bool split) {
    Products& list = plan.products;
    std::int64_t groups = 0, chunks = 1, rows = 1;
    const std::int64_t chunk = per_chunk(type);
    for (int i = 0; i < list.count; ++i) {
        const Product& product = list.items[i];
        groups += divide_up(product.outputs, width);
        chunks = std::max(chunks, divide_up(product.cols, chunk));
        rows = std::max<std::int64_t>(rows, all_rows(list, product));
    }
    plan.rows = bucket_of(rows);
    list.splits = split ? splits_for(groups, chunks, chunk, device.processors()) : 1;
    list.groups = groups_for(groups, plan.rows, device.processors(), kMaxWarps / list.splits, split);
    for (int i = 0; i < list.count; ++i) {
        list.items[i].first_tile = list.tiles;
        list.tiles += static_cast<int>(divide_up(list.items[i].outputs, list.groups * width));
    }
    const std::int64_t row_bytes = chunk * plan.rows * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t whole = divide_up(chunks, list.splits), room = kStageBytes / row_bytes / list.splits;
    list.stretch = static_cast<int>(std::min(whole, room) * list.splits);
    plan.staged_columns = list.stretch * chunk;
    plan.shape.shared_bytes = static_cast<std::size_t>(list.stretch * row_bytes) +
                              sizeof(float) * 2 * kMaxWarps * kOutputs * static_cast<std::size_t>(plan.rows);
    const int warps = list.groups * list.splits;
    const int resident = resident_blocks(device, plan.rows, warps, plan.shape.shared_bytes);
    plan.shape.grid = dim3(static_cast<unsigned>(std::min(list.tiles, resident)));
    plan.shape.block = dim3(static_cast<unsigned>(warps * kWarp));
}

void check_norm(const NormArgs& args) {
    const std::int64_t rows = args.x.rows, cols = args.x.cols;
    expect(has_shape(args.x, rows, cols) && has_shape(args.out, rows, cols), "norm: x and out are not [M, D]");
    expect(args.weight.size == cols, "norm: weight is not [D]");
    expect(!args.bias || args.bias.size == cols, "norm: bias is not [D]");
}

}  // namespace

bool is_packed(const Weight& weight) {
    const auto row_bytes = static_cast<std::uint64_t>(weight.row_bytes());
    return (reinterpret_cast<std::uintptr_t>(weight.data) | row_bytes) % 16 == 0;
}

bool has_few_rows(const LinearArgs& args) {
    const bool empty = args.x.rows == 0 || args.weight.rows == 0 || args.weight.cols == 0;
    return !empty && args.x.rows <= kFewRows && is_packed(args.weight);
}

FewRowsPlan plan_few_rows(const Device& device, std::span<const LinearArgs> products, bool split) {
    FewRowsPlan plan{};
    Products& list = plan.products;
    std::vector<const LinearArgs*> weights, others;
    std::vector<int> rows, places;  // of each of `weights`, together; where each of `others` belongs
    for (const LinearArgs& args : products) {
        const auto room = [&](std::size_t i) { return rows[i] + args.x.rows <= kFewRows; };
        std::size_t i = 0;
        while (i < weights.size() && !(same_weight(*weights[i], args) && room(i))) ++i;
        if (i < weights.size()) {
            others.push_back(&args);
            places.push_back(static_cast<int>(i));
        } else {
            weights.push_back(&args);
            rows.push_back(0);
            list.items[list.count++] = product_of(args);
        }
        rows[i] += static_cast<int>(args.x.rows);
    }
    for (std::size_t i = 0; i < others.size(); ++i) {
        const int item = list.count + static_cast<int>(i);
        list.items[item] = product_of(*others[i]);
        int last = places[i];
        while (list.items[last].more != 0) last = list.items[last].more;
        list.items[last].more = item;
    }
    number_inputs(list);
    lay_out(plan, device, products.front().weight.dtype, kOutputs, split);
    return plan;
}

FewRowsPlan plan_pair(const Device& device, const LinearArgs& first, const LinearArgs& second) {
    FewRowsPlan plan{};
    plan.products.items[0] = product_of(first);
    plan.products.items[1] = product_of(second);
    plan.products.count = 1;
    lay_out(plan, device, first.weight.dtype, kPairOutputs, true);
    return plan;
}

LaunchShape shape_of_halves(const Device& device, const FewRowsPlan& second, int parts, int warps,
                            std::size_t shared_bytes) {
    const LaunchShape& own = second.shape;
    const std::size_t bytes = std::max(own.shared_bytes, shared_bytes);
    const int most = std::max(warps, static_cast<int>(own.block.x) / kWarp);
    const int blocks =
        std::min(std::max(parts, second.products.tiles), resident_blocks(device, second.rows, most, bytes));
    return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(most * kWarp)), bytes};
}

bool fuse_norm(FewRowsPlan& plan, const NormArgs& norm) {
    check_norm(norm);
    Products& list = plan.products;
    const Product& first = list.items[0];
    const auto touches_norm = [&](const Product& product) {
        // One block writes norm.out while others finish their outputs.
        return product.out.data == norm.x.data || product.out.data == norm.out.data ||
               product.residual.data == norm.out.data;
    };
    for (int i = 0; i < list.count; ++i) {
        const Product* product = &list.items[i];
        if (product->x_number != 0 || touches_norm(*product)) return false;
        while (product->more != 0) {
            product = &list.items[product->more];
            if (touches_norm(*product) || product->x.matrix.data == norm.out.data) return false;
        }
    }
    const bool same = first.x.matrix.data == norm.out.data && first.x.matrix.stride == norm.out.stride &&
                      first.rows == norm.x.rows && first.cols == norm.x.cols;
    if (!same || first.cols > plan.staged_columns) return false;
    list.norm = {packed_view_of(norm.x),
                 packed_view_of(norm.out),
                 packed_view_of(norm.weight),
                 packed_view_of(norm.bias),
                 norm.kind,
                 norm.eps};
    return true;
}

}  // namespace lrengine::cuda
