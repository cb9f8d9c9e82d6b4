// A plugin for the GCC that precompiles <bits/stdc++.h>: instantiates what the header's own code needs before it is saved.
//
// Theory of operation. Inline functions of the standard library use templates: a lock in <future> needs a shared_ptr, a
// formatter of <chrono> needs all of <format>. GCC notes such instances and makes them at the end of a translation unit;
// but a precompiled header is written before that, so each program that includes it made them all again, used or not: 0.2
// of 0.45 s for C++17, 0.6 of 1.1 s for C++23. Here they are made when the header ends, and saved with it. The standard
// allows that (the end of the unit is one more point of instantiation, beside the one right after the use, [temp.point]),
// and what a program does not use is dropped as before: nothing refers to it.
//
// An instance may need the virtual functions of a class, since its vtable is used, and these need more instances; GCC turns
// to vtables at the end as well. So both are repeated until no further vtable is used.
//
// `at_eof` is how GCC tells that the unit ends. Without it the instances would be kept for a decision on their linkage that
// belongs to the end of the unit, and the compiler of a program would stop at them with an internal error.
#include "gcc-plugin.h"
#include "plugin-version.h"
#include "tree.h"

#include "cp/cp-tree.h"

int plugin_is_GPL_compatible;

namespace {

// Rounds of instances and vtables; GCC 14 needs three.
constexpr int most_rounds = 10;

bool done;

bool has_used_vtable(tree type) {
    tree table = CLASSTYPE_VTABLES(type);
    if (!table || VOID_TYPE_P(TREE_TYPE(table)) || CLASSTYPE_EXPLICIT_INSTANTIATION(type)) {
        return false;
    }
    return TREE_USED(table) || TREE_SYMBOL_REFERENCED(DECL_ASSEMBLER_NAME(table));
}

void use_virtual_functions(tree type) {
    for (tree entry = BINFO_VIRTUALS(TYPE_BINFO(type)); entry; entry = TREE_CHAIN(entry)) {
        tree function = BV_FN(entry);
        if (TREE_CODE(function) == FUNCTION_DECL && !DECL_PURE_VIRTUAL_P(function) && !DECL_DELETED_FN(function)) {
            mark_used(function);
        }
    }
}

unsigned use_vtables() {
    unsigned used = 0;
    for (unsigned index = 0; index < vec_safe_length(keyed_classes); index++) {
        if (has_used_vtable((*keyed_classes)[index])) {
            use_virtual_functions((*keyed_classes)[index]);
            used++;
        }
    }
    return used;
}

void instantiate() {
    unsigned used = 0;
    for (int round = 0; round < most_rounds; round++) {
        instantiate_pending_templates(0);
        const unsigned before = used;
        used = use_vtables();
        if (round > 0 && used == before) {
            return;
        }
    }
    fatal_error(UNKNOWN_LOCATION, "instances need new ones after %d rounds", most_rounds);
}

// The header includes others, and then declares something itself: that is where it ends.
void on_declaration(void *, void *) {
    if (done || strcmp(LOCATION_FILE(input_location), main_input_filename) != 0) {
        return;
    }
    done = true;
    at_eof = 1;
    instantiate();
    at_eof = 0;
}

void on_end(void *, void *) {
    if (!done) {
        fatal_error(UNKNOWN_LOCATION, "nothing was declared after the header, so nothing was instantiated");
    }
}

} // namespace

int plugin_init(plugin_name_args *self, plugin_gcc_version *version) {
    if (!plugin_default_version_check(version, &gcc_version)) {
        return 1;
    }
    register_callback(self->base_name, PLUGIN_FINISH_DECL, on_declaration, nullptr);
    register_callback(self->base_name, PLUGIN_FINISH, on_end, nullptr);
    return 0;
}
