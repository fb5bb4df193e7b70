"""The JSON Schema of search files, made from the records, so that editors complete and check what is typed.

It describes the YAML as it is written, nested, and takes whatever ``load_spec`` takes. What a schema cannot
say (that a step divides its range, that low is below high) is left to ``load_spec``.
"""

import json
from typing import Any

from pydantic.fields import FieldInfo

from tuner.spec.domain import Domain, find_domain
from tuner.spec.hyperparameters import COMPONENTS, Hyperparameters
from tuner.spec.model import SpecModel
from tuner.spec.notify_section import EVENTS, WEBHOOK_PATTERN
from tuner.spec.ranges import STEPPED, find_fitting
from tuner.spec.search import (
    DataSpec,
    Halving,
    Limits,
    Narrow,
    Notify,
    Objective,
    Resources,
    SearchSpec,
    StageAsWritten,
    TensorBoard,
    Tracking,
)
from tuner.spec.sections import (
    DATA_KEYS,
    DURATION_PATTERN,
    FURTHER,
    LEDGER_PATTERN,
    NAME_PATTERN,
    NATURAL_MODES,
    PATH_NEEDED,
    STORE_PATTERN,
    find_owners,
)
from tuner.spec.space import Prior
from tuner.spec.stages_section import STAGE_PATTERN

Schema = dict[str, Any]
Context = tuple[tuple[str, str], ...]

_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "text": "string"}


def build_json_schema() -> Schema:
    """Build the JSON Schema (draft 2020-12) of a search file."""
    definitions: Schema = {}
    _define_space((), definitions)
    finished = _build_object({"from": {**_build_name(), "description": "The finished search's name."}}, ["from"])
    sections = {
        "name": _build_name(),
        "data": _build_data(),
        "objective": _build_objective(),
        "space": {"anyOf": [finished, {"$ref": "#/$defs/space"}]},
        "stages": _build_stages(),
        "resources": _build_resources(),
        "limits": _build_limits(),
        "tracking": _build_tracking(),
        "tensorboard": {"anyOf": [{"type": "null"}, _build_record(TensorBoard)]},
        "notify": _build_notify(),
        "storage": {"anyOf": [{"enum": ["auto"]}, {"type": "string", "pattern": f"^({LEDGER_PATTERN})$"}]},
    }
    sections["warm_start"] = {"type": "array", "items": _build_name(), "uniqueItems": True}
    search = _build_record(SearchSpec, sections, hidden=("first",))
    first = {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/space"}]}}
    search["properties"]["try"] = {**first, **_annotate(SearchSpec.model_fields["first"])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A search",
        **search,
        "$defs": dict(sorted(definitions.items())),
    }


def dump_json_schema() -> str:
    """Return the JSON Schema as the text of the file that is shipped, ``search.schema.json``."""
    return json.dumps(build_json_schema(), indent=1) + "\n"


def _build_object(properties: Schema, required: list[str] | None = None) -> Schema:
    needed = {"required": required} if required else {}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _build_record(record: type[SpecModel], replaced: Schema | None = None, hidden: tuple[str, ...] = ()) -> Schema:
    """Describe a section by the record that it becomes."""
    replaced = replaced or {}
    fields = {key: field for key, field in record.model_fields.items() if key not in hidden}
    properties = {
        key: {**(replaced.get(key) or _build_domain(find_domain(record, key))), **_annotate(field)}
        for key, field in fields.items()
    }
    required = [key for key, field in fields.items() if field.is_required()]
    return {"description": record.__doc__, **_build_object(properties, required)}


def _annotate(field: FieldInfo) -> Schema:
    """Return a field's description, and its default where that is a plain value."""
    annotation: Schema = {"description": field.description} if field.description else {}
    if isinstance(field.default, bool | int | float | str):
        annotation["default"] = field.default
    return annotation


def _build_domain(domain: Domain) -> Schema:
    """Describe the values that a field allows."""
    parts: list[Schema] = [{"enum": list(domain.words)}] if domain.words else []
    if domain.kind is not None:
        part: Schema = {"type": _TYPES[domain.kind]}
        if domain.low is not None:
            part["exclusiveMinimum" if domain.is_low_open else "minimum"] = domain.low
        if domain.high is not None:
            part["exclusiveMaximum" if domain.is_high_open else "maximum"] = domain.high
        parts.append(part)
    if domain.is_optional:
        parts.append({"type": "null"})
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _build_name() -> Schema:
    return {"type": "string", "pattern": f"^{NAME_PATTERN}$"}


def _build_data() -> Schema:
    names = [str(name) for name in find_domain(DataSpec, "name").words]
    rules: list[Schema] = []
    for name in names:
        fixed = {
            key: {"const": DataSpec.model_fields[key].default} for key in DATA_KEYS if name not in find_owners(key)
        }
        path = {"type": "string", "minLength": 1, **({} if name == "parquet" else {"not": {"pattern": "://"}})}
        if name in PATH_NEEDED:
            then = {"properties": {"path": path, **fixed}, "required": ["path"]}
        else:
            then = {"properties": {"path": {"anyOf": [{"type": "null"}, path]}, **fixed}}
        rules.append({"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": then})
    alone = [name for name in names if name not in PATH_NEEDED]
    return {"anyOf": [{"enum": alone}, {**_build_record(DataSpec), "allOf": rules}]}


def _build_objective() -> Schema:
    default = Objective().metric
    modes = [
        {
            "if": {
                "properties": {"metric": {"const": name}},
                **({} if name == default else {"required": ["metric"]}),
            },
            "then": {"properties": {"mode": {"const": mode}}},
        }
        for name, mode in NATURAL_MODES.items()
    ]
    metric, further = _build_domain(find_domain(Objective, "metric")), _build_domain(FURTHER)
    also = {"type": "array", "items": further, "uniqueItems": True}
    several = {**also, "prefixItems": [metric], "minItems": 1}
    return {"anyOf": [metric, several, {"type": "null"}, {**_build_record(Objective, {"also": also}), "allOf": modes}]}


def _build_stages() -> Schema:
    replaced = {
        key: {"anyOf": [{"const": "none"}, _build_record(record)]}
        for key, record in (("halving", Halving), ("narrow", Narrow))
    }
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{STAGE_PATTERN}$"},
        "additionalProperties": _build_record(StageAsWritten, replaced, hidden=("name",)),
    }


def _build_resources() -> Schema:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    gpus = {"anyOf": [{"enum": ["auto"]}, share, {"type": "integer", "minimum": 1}]}
    return {"anyOf": [{"type": "null"}, _build_record(Resources, {"gpus": gpus})]}


def _build_limits() -> Schema:
    time = {
        "anyOf": [
            {"type": "string", "pattern": f"^{DURATION_PATTERN}$"},
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "null"},
        ],
        "description": "A duration such as 90s, 30m, 1h30m or 2d, or seconds; over all its sittings.",
    }
    described = _build_record(Limits, hidden=("time_s",))
    return {"anyOf": [{"type": "null"}, {**described, "properties": {"time": time, **described["properties"]}}]}


def _build_tracking() -> Schema:
    store = {"anyOf": [{"enum": ["auto", "off"]}, {"type": "string", "pattern": f"^({STORE_PATTERN})$"}]}
    project = {"type": "string", "minLength": 1}
    return {"anyOf": [{"type": "null"}, _build_record(Tracking, {"mlflow": store, "wandb": project})]}


def _build_notify() -> Schema:
    command = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    webhook = {"anyOf": [{"type": "null"}, {"type": "string", "pattern": f"^{WEBHOOK_PATTERN}$"}]}
    events = {"type": "array", "items": _build_domain(EVENTS), "minItems": 1}
    record = _build_record(Notify, {"command": command, "webhook": webhook, "events": events})
    return {"anyOf": [{"type": "null"}, {**record, "anyOf": [{"required": [key]} for key in ("command", "webhook")]}]}


def _define_space(context: Context, definitions: Schema) -> Schema:
    """Define the space that exists under some networks and optimizers, and return a reference to it.

    Parameters
    ----------
    context : tuple of (component, option)
        The alternatives around it, outermost first: their own hyperparameters can stand in it.
    definitions : dict
        Gets the definition, and those that it refers to.
    """
    name = _name_space(context)
    reference = {"$ref": f"#/$defs/{name}"}
    if name in definitions:
        return reference
    definitions[name] = {}  # named before it is made, for it can hold itself
    properties: Schema = {}
    for record, owner in [(Hyperparameters, "training"), *((COMPONENTS[c][o], o) for c, o in context)]:
        for key, field in record.model_fields.items():
            if key not in dict(context):
                domain = find_domain(record, key)
                if domain.takes_alternatives:
                    properties[key] = {**_build_words(key, domain, context, definitions), **_annotate(field)}
                else:
                    definitions[f"{owner}.{key}"] = {**_build_numbers(domain), **_annotate(field)}
                    properties[key] = {"$ref": f"#/$defs/{owner}.{key}"}
    definitions[name] = _build_object(properties)
    return reference


def _name_space(context: Context) -> str:
    return ".".join(["space", *(part for pair in context for part in pair)])


def _sort_context(context: Context) -> Context:
    """Return one order for contexts that mean the same: all but those that share a name."""
    fields = [field for component, option in context for field in COMPONENTS[component][option].model_fields]
    return tuple(sorted(context)) if len(set(fields)) == len(fields) else context


def _build_words(key: str, domain: Domain, context: Context, definitions: Schema) -> Schema:
    """Describe a hyperparameter whose options can have spaces of their own."""
    definition = f"{_name_space(context)}.{key}"
    if key in COMPONENTS:
        alternatives: Schema = {}
        for word in domain.words:
            assert isinstance(word, str)
            inner = _define_space(_sort_context((*context, (key, word))), definitions)
            alternatives[word] = {"anyOf": [{"type": "null"}, inner], "description": COMPONENTS[key][word].__doc__}
        definitions[definition] = {**_build_object(alternatives), "minProperties": 1}
    else:
        space = {"anyOf": [{"type": "null"}, _define_space(context, definitions)]}
        definitions[definition] = {
            "type": "object",
            "propertyNames": {"enum": list(domain.words)},
            "additionalProperties": space,
            "minProperties": 1,
        }
    words = _build_domain(domain)
    mapping = {"$ref": f"#/$defs/{definition}"}
    choice = {"anyOf": [_build_list(words), mapping]}
    drawn = _build_object({"choice": choice, "prior": _build_prior(words)}, ["choice"])
    return {"anyOf": [words, drawn, {**mapping, "maxProperties": 1}]}


def _build_numbers(domain: Domain) -> Schema:
    """Describe a hyperparameter without spaces of its own: a constant, a range or a choice."""
    value = _build_domain(domain)
    prior = _build_prior(value)
    parts = [value, _build_object({"choice": _build_list(value), "prior": prior}, ["choice"])]
    for kind in find_fitting(domain):
        end = {**value}
        if kind.startswith("log") and (domain.low is None or domain.low <= 0):
            end.pop("minimum", None)
            end["exclusiveMinimum"] = 0
        ends = {"type": "array", "items": end, "minItems": 2, "maxItems": 2}
        properties: Schema = {kind: ends, "prior": prior}
        if kind in STEPPED:
            properties["step"] = {"type": value["type"], "exclusiveMinimum": 0}
        parts.append(_build_object(properties, [kind]))
    return {"anyOf": parts}


def _build_prior(value: Schema) -> Schema:
    return {"anyOf": [value, _build_record(Prior, {"guess": value})]}


def _build_list(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}
