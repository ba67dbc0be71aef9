"""What each call of the allow-list takes: names and kinds of its arguments, and nothing else.

A row is a text: `name:kind` in the order of the call; `*name:kind` takes all further arguments;
` | ` separates forms of one function. Kinds are those of `kinds.py`: `?` allows None, `+` joins
alternatives, quoted kinds are texts. The rows of the operator table come from that table.
"""

from __future__ import annotations

from collections.abc import Mapping

from fxq.ir.ops import Op

# Of the operator table: the kinds of its operands and attributes, by name, then where one differs.
OPERANDS: Mapping[str, str] = {
    "input": "T", "tensors": "tensors", "other": "value", "weight": "T", "bias": "T?",
    "running_mean": "T?", "running_var": "T?", "scale": "T", "shift": "T"}
ATTRIBUTES: Mapping[str, str] = {
    "stride": "steps?", "padding": "pads", "output_padding": "pads", "dilation": "steps",
    "groups": "positive", "kernel_size": "steps",
    "ceil_mode": "bool", "count_include_pad": "bool", "divisor_override": "positive?",
    "output_size": "sizes", "upscale_factor": "step", "downscale_factor": "step",
    "training": "bool", "use_input_stats": "bool", "momentum": "number", "eps": "number",
    "normalized_shape": "naturals", "num_groups": "positive",
    "exponent": "value", "min": "value?", "max": "value?", "approximate": "'none'+'tanh'",
    "beta": "number", "threshold": "number", "negative_slope": "number", "alpha": "number",
    "lambd": "number", "value": "number?",
    "dim": "ints?", "keepdim": "bool", "start_dim": "int", "end_dim": "int", "shape": "ints",
    "dims": "ints", "dim0": "int", "dim1": "int", "start": "int", "length": "int",
    "shifts": "ints", "index": "index?", "pad": "list", "size": "naturals?",
    "scale_factor": "factors?", "align_corners": "bool?", "recompute_scale_factor": "bool?",
    "antialias": "bool"}
OWN: Mapping[tuple[str, str], str] = {
    **{(f"{name}_norm", w): "T?" for name in ("batch", "layer", "group", "instance")
       for w in ("weight", "bias")},
    **{(f"conv{rank}d", "padding"): "pads+'same'+'valid'" for rank in (1, 2, 3)},
    **{(name, "dim"): "int" for name in ("cat", "stack", "unsqueeze", "narrow")},
    **{(name, "input"): "value" for name in ("add", "sub", "rsub", "mul", "div", "pow")},
    ("conv2d_add", "other"): "T", ("conv2d_add_relu", "other"): "T", ("matmul", "other"): "T",
    ("threshold", "value"): "number", ("size", "dim"): "index?", ("getitem", "input"): "container",
    ("pad", "mode"): "'constant'+'reflect'+'replicate'+'circular'",
    ("interpolate", "mode"): "'nearest'+'nearest-exact'+'linear'+'bilinear'+'bicubic'+'trilinear'"
                             "+'area'"}
# What torch's function takes beside; a graph has it where the operator's canonical form does not.
BESIDE: Mapping[str, str] = {
    **dict.fromkeys(("add", "sub", "rsub"), "alpha:number"),
    "div": "rounding_mode:'floor'+'trunc'?",
    **dict.fromkeys(("softmax", "log_softmax"), "_stacklevel:int dtype:dtype?"),
    "mean": "dtype:dtype?"}

_X, _LIKE = "input:T", "input:T other:T"
_TWO = "input:value other:value"
_OVER = "input:T dim:ints? keepdim:bool dtype:dtype?"
_ONE = "input:T dim:int? keepdim:bool"
_BEST = "input:T | input:T dim:int keepdim:bool | input:T other:T"
_SPREAD = ("input:T dim:ints? unbiased:bool keepdim:bool correction:number? | "
           "input:T unbiased:bool")
_POOL = "input:T kernel_size:steps stride:steps? padding:pads dilation:steps"

# Functions of torch, of torch.nn.functional, and methods: a name has one row wherever it is.
_BY_ROW: Mapping[str, str] = {
    "abs ceil clone contiguous cos detach dim double erf exp float floor half log logsigmoid long"
    " neg numel reciprocal round rsqrt sign sin softsign sqrt square t tanhshrink": _X,
    "selu": "input:T inplace:false", "celu": "input:T alpha:number inplace:false",
    "hardtanh": "input:T min_val:number max_val:number inplace:false",
    "threshold": "input:T threshold:number value:number inplace:false",
    "eq ge gt le lt ne": _TWO, "maximum minimum": _LIKE,
    "expand_as type_as view_as": _LIKE, "mul": _TWO,
    "sub": "input:value other:value alpha:number",
    "div": "input:value other:value rounding_mode:'floor'+'trunc'?",
    "pow": "input:value exponent:value",
    "amax amin logsumexp": "input:T dim:ints keepdim:bool", "argmax argmin": _ONE,
    "mean sum": _OVER, "prod": "input:T dim:int? keepdim:bool dtype:dtype?",
    "max min": _BEST, "std var": _SPREAD,
    "norm": "input:T p:number+'fro'? dim:ints? keepdim:bool dtype:dtype?",
    "cumsum": "input:T dim:int dtype:dtype?", "topk":
    "input:T k:int dim:int largest:bool sorted:bool",
    "chunk": "input:T chunks:positive dim:int", "unbind unsqueeze": "input:T dim:int",
    "split": "input:T split_size:naturals dim:int | "
             "input:T split_size_or_sections:naturals dim:int",
    "unflatten": "input:T dim:int sizes:ints", "squeeze": "input:T dim:ints?",
    "flatten": "input:T start_dim:int end_dim:int", "flip": "input:T dims:ints | input:T *dims:int",
    "movedim": "input:T source:ints destination:ints", "transpose": "input:T dim0:int dim1:int",
    "permute": "input:T dims:ints | input:T *dims:int",
    "expand": "input:T size:ints | input:T *size:int",
    "repeat": "input:T repeats:ints | input:T *repeats:int",
    "reshape view": "input:T shape:ints | input:T size:ints | input:T *shape:int",
    "size": "input:T dim:int?", "to": "input:T dtype:dtype copy:bool | input:T other:T copy:bool",
    "gather": "input:T dim:int index:T", "index_select": "input:T dim:int index:T",
    "masked_fill": "input:T mask:T value:value", "where": "condition:T input:value other:value",
    "einsum": "equation:equation *operands:T",
    "softmax softmin": "input:T dim:int? _stacklevel:int dtype:dtype? | "
                       "input:T dim:int dtype:dtype?",
    "glu": "input:T dim:int", "normalize": "input:T p:number dim:ints eps:number",
    "cosine_similarity": "x1:T x2:T dim:int eps:number",
    # `max_norm` would write into the weights
    "embedding": "input:T weight:T padding_idx:int? max_norm:none? norm_type:number"
                 " scale_grad_by_freq:false sparse:false",
    "pairwise_distance": "x1:T x2:T p:number eps:number keepdim:bool",
    "fold": "input:T output_size:steps kernel_size:steps dilation:steps padding:pads"
            " stride:steps",
    "unfold": "input:T kernel_size:steps dilation:steps padding:pads stride:steps",
    "max_pool3d": f"{_POOL} ceil_mode:bool",
    "lp_pool2d": "input:T norm_type:number kernel_size:steps stride:steps? ceil_mode:bool",
    "local_response_norm": "input:T size:positive alpha:number beta:number k:number",
    "instance_norm": "input:T running_mean:T? running_var:T? weight:T? bias:T?"
                     " use_input_stats:bool momentum:number eps:number",
    "rms_norm": "input:T normalized_shape:naturals weight:T? eps:number?",
    "scaled_dot_product_attention": "query:T key:T value:T attn_mask:T? dropout_p:number"
                                    " is_causal:bool scale:number? enable_gqa:bool"}
FUNCTIONS: Mapping[str, str] = {name: row for names, row in _BY_ROW.items()
                                for name in names.split()}

_COMPARED = "a:value b:value | a:list b:list"
_NUMBERS: Mapping[str, str] = {
    "add": _COMPARED, "eq ne ge gt le lt": _COMPARED,
    "and_ floordiv mod mul or_ pow sub truediv": "a:value b:value", "invert neg": "a:value",
    "getitem": "a:container b:index?"}
OPERATORS: Mapping[str, str] = {name: row for names, row in _NUMBERS.items()
                                for name in names.split()}

PARTS = "value:container count:positive"
_FORMAT = "scale:scale zero_point:int low:int high:int"
INTEGERS: Mapping[str, str] = {
    "quantize": f"input:T table:T? {_FORMAT}", "dequantize": f"input:T {_FORMAT}",
    "dequantize_weight": "weight:T scales:T zeros:T? axis:int",
    "round_at_run_time": "input:T low:int high:int",
    "clamp_on_integers": "input:T low:int high:int", "to_dtype": "input:T dtype:dtype"}


def row_of(op: Op) -> str:
    """The row of an operator: operands by position, attributes by name."""
    names = (op.name, op.base)
    kinds = [(name, op.kinds.get(name) or _kind(names, name, table, op)) for table, part in (
        (OPERANDS, op.operands), (ATTRIBUTES, op.attributes)) for name in part]
    return " ".join([*(f"{name}:{kind}" for name, kind in kinds), BESIDE.get(op.name, "")]).strip()


def _kind(ops: tuple[str, ...], name: str, table: Mapping[str, str], op: Op) -> str:
    if all(ops) and name in ("min", "max"):
        return "number?"  # the rules of fused operators know no tensors as bounds
    own = (OWN.get((op, name)) for op in ops)
    return next((kind for kind in own if kind), "") or table.get(name) or _of_default(op, name)


def _of_default(op: Op, name: str) -> str:
    """Where a plugin's row does not say: a tensor, or what the default is; for None, None alone."""
    if name in op.operands:
        return "T"
    return {bool: "bool", int: "int", float: "number"}.get(type(op.attributes[name]), "none?")


__all__ = ["ATTRIBUTES", "FUNCTIONS", "INTEGERS", "OPERANDS", "OPERATORS", "PARTS", "row_of"]
