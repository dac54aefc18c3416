"""Collections of images and features: loading, choosing, mapping, aggregating."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from infra.local.earthengine.algorithms.filters import Filter
from infra.local.earthengine.algorithms.reducers import SIMPLE
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.histograms import frequency_histogram
from infra.local.earthengine.image import Element, Image
from infra.local.earthengine.promote import to_geometry
from infra.local.earthengine.reducers import Reducer, Rows, plain
from infra.local.earthengine.values import Collection, Date, Feature, Function


def with_index(element: Any, index: Any) -> Any:
    """The element with a `system:index` when it has none."""
    if index is None or element.properties.get("system:index") is not None:
        return element
    return replace(element, properties={**element.properties, "system:index": str(index)})


@algorithm("ImageCollection.load")
def load_collection(context: Context, id: str, version: int | None = None) -> Collection:
    """An image collection asset."""
    return context.assets.collection(id)


@algorithm("Collection.loadTable")
def load_table(context: Context, tableId: str, geometryColumn: str | None = None, version: int = -1) -> Collection:
    """A table asset."""
    return context.assets.table(tableId)


@algorithm("ImageCollection.fromImages")
def from_images(images: list[Image]) -> Collection:
    """A collection of the given images; `system:index` counts them."""
    return Collection(elements=tuple(_renumbered(images)))


@algorithm("Collection")
def from_features(features: list[Element]) -> Collection:
    """A feature collection of the given features."""
    elements = tuple(_renumbered([f if isinstance(f, Image | Feature) else Feature() for f in features]))
    return Collection(elements=elements, images=bool(elements) and all(isinstance(e, Image) for e in elements))


def _renumbered(elements: Any) -> list[Any]:
    numbered: list[Any] = []
    for i, element in enumerate(elements):
        if isinstance(element, Feature):
            numbered.append(element if element.id is not None else replace(element, id=str(i)))
        else:
            numbered.append(replace(element, properties={**element.properties, "system:index": str(i)}))
    return numbered


@algorithm("Collection.filter")
def filter_collection(collection: Collection, filter: Filter) -> Collection:
    """The elements that match."""
    if not isinstance(filter, Filter):
        raise ArgumentError("Collection.filter: The argument 'filter' must be a filter.")
    return replace(collection, elements=tuple(e for e in collection.elements if filter.matches(e)))


@algorithm("Collection.map")
def map_collection(collection: Collection, baseAlgorithm: Function, dropNulls: bool = False) -> Collection:
    """The function applied to every element; nulls are dropped when asked, refused otherwise."""
    made: list[Any] = []
    for element in collection.elements:
        result = baseAlgorithm(element)
        if result is None:
            if dropNulls:
                continue
            raise ArgumentError("Collection.map: A mapped function returned null; use dropNulls.")
        if not isinstance(result, Element):
            raise ArgumentError("Collection.map: A mapped algorithm must return a Feature or Image.")
        if isinstance(result, Image):
            made.append(with_index(result, element.get("system:index")))
        else:
            made.append(result if getattr(result, "id", None) else replace(result, id=element.id))
    images = all(isinstance(e, Image) for e in made) if made else collection.images
    return replace(collection, elements=tuple(made), images=images)


@algorithm("Collection.size")
def size(collection: Collection) -> int:
    """How many elements there are."""
    return len(collection.elements)


@algorithm("Collection.first")
def first(collection: Collection) -> Any:
    """The first element; null when there is none."""
    return collection.elements[0] if collection.elements else None


@algorithm("Collection.toList")
def to_list(collection: Collection, count: int, offset: int = 0) -> list[Any]:
    """Elements as a list."""
    return list(collection.elements[offset : offset + count])


@algorithm("Collection.limit")
def limit(
    collection: Collection, limit: int | None = None, key: str | None = None, ascending: bool = True
) -> Collection:
    """The first elements, sorted by a property when one is given; those without it come last."""
    elements = list(collection.elements)
    if key is not None:
        having = [e for e in elements if e.get(key) is not None]
        lacking = [e for e in elements if e.get(key) is None]
        having.sort(key=lambda e: _sortable(e.get(key)), reverse=not ascending)
        elements = having + lacking
    return replace(collection, elements=tuple(elements if limit is None else elements[:limit]))


def _sortable(value: Any) -> Any:
    number = value.millis if isinstance(value, Date) else value
    return (isinstance(number, str), number)


@algorithm("Collection.merge", "ImageCollection.merge")
def merge(collection1: Collection, collection2: Collection) -> Collection:
    """Both, one after the other; indices are prefixed with `1_` and `2_`."""
    elements: list[Any] = []
    for place, part in ((1, collection1), (2, collection2)):
        for i, element in enumerate(part.elements):
            if isinstance(element, Feature):
                elements.append(replace(element, id=f"{place}_{element.id if element.id is not None else i}"))
            else:
                index = element.get("system:index") or i
                elements.append(replace(element, properties={**element.properties, "system:index": f"{place}_{index}"}))
    return Collection(elements=tuple(elements), images=collection1.images and collection2.images)


@algorithm("Collection.flatten")
def flatten(collection: Collection) -> Collection:
    """The elements of a collection of collections."""
    elements: list[Any] = []
    for part in collection.elements:
        if not isinstance(part, Collection):
            raise ArgumentError("Collection.flatten: The elements must be collections.")
        elements.extend(part.elements)
    return Collection(elements=tuple(elements), images=bool(elements) and all(isinstance(e, Image) for e in elements))


@algorithm("Collection.iterate")
def iterate(collection: Collection, function: Function, first: Any = None) -> Any:
    """The function applied to each element and the result of the one before."""
    result = first
    for element in collection.elements:
        result = function(element, result)
    return result


@algorithm("Collection.distinct")
def distinct(collection: Collection, properties: Any) -> Collection:
    """One element for each combination of the properties."""
    names = properties if isinstance(properties, list) else [properties]
    seen: set[str] = set()
    kept = []
    for element in collection.elements:
        key = repr([element.get(n) for n in names])
        if key not in seen:
            seen.add(key)
            kept.append(element)
    return replace(collection, elements=tuple(kept))


def property_of(element: Any, name: str) -> Any:
    """A property for aggregation; dates as milliseconds, `.geo` as the geometry."""
    if name == ".geo":
        return to_geometry(element)
    value = element.get(name)
    return value.millis if isinstance(value, Date) else value


@algorithm("Collection.reduceColumns")
def reduce_columns(
    collection: Collection, reducer: Reducer, selectors: list[str], weightSelectors: list[str] | None = None
) -> dict[str, Any]:
    """A reducer over properties of the elements; elements that lack one are left out."""
    if weightSelectors:
        raise ArgumentError("Collection.reduceColumns: weights are not known to the local stand-in.")
    if len(selectors) != reducer.inputs:
        raise ArgumentError(
            f"Collection.reduceColumns: Need {reducer.inputs} input(s) for this reducer, got {len(selectors)}."
        )
    rows = [tuple(property_of(e, s) for s in selectors) for e in collection.elements]
    return reducer.rows([r for r in rows if all(v is not None for v in r)])


@algorithm("AggregateFeatureCollection.array")
def aggregate_array(collection: Collection, property: str) -> list[Any]:
    """The property of every element that has it."""
    return [v for v in (property_of(e, property) for e in collection.elements) if v is not None]


@algorithm("AggregateFeatureCollection.histogram")
def aggregate_histogram(collection: Collection, property: str) -> Any:
    """How often each value of the property occurs."""
    return frequency_histogram(Rows([(v,) for v in aggregate_array(collection, property)]))[0]


@algorithm("AggregateFeatureCollection.count")
def aggregate_count(collection: Collection, property: str) -> int:
    """How many elements have the property."""
    return len(aggregate_array(collection, property))


@algorithm("AggregateFeatureCollection.count_distinct")
def aggregate_count_distinct(collection: Collection, property: str) -> int:
    """How many different values the property has."""
    return len({repr(v) for v in aggregate_array(collection, property)})


@algorithm("AggregateFeatureCollection.first")
def aggregate_first(collection: Collection, property: str) -> Any:
    """The property of the first element that has it."""
    return next(iter(aggregate_array(collection, property)), None)


def _extreme(collection: Collection, property: str, *, choose: Callable[..., Any]) -> Any:
    """The smallest or largest value of a property; null when no element has it."""
    return choose(aggregate_array(collection, property), default=None)


register("AggregateFeatureCollection.min", partial(_extreme, choose=min))
register("AggregateFeatureCollection.max", partial(_extreme, choose=max))


def _aggregate(collection: Collection, property: str, *, reducer: Reducer) -> Any:
    """A sum, mean, product, deviation (`_sd`) or variance (`_var`) of a property, of all (`total`) or of a sample."""
    return next(iter(reducer.rows([(v,) for v in aggregate_array(collection, property)]).values()))


for _name, _reducer in {
    "sum": "sum",
    "mean": "mean",
    "product": "product",
    "total_sd": "stdDev",
    "sample_sd": "sampleStdDev",
    "total_var": "variance",
    "sample_var": "sampleVariance",
}.items():
    register(f"AggregateFeatureCollection.{_name}", partial(_aggregate, reducer=SIMPLE[_reducer]))


@algorithm("AggregateFeatureCollection.stats")
def aggregate_stats(collection: Collection, property: str) -> dict[str, Any]:
    """Count, mean, extremes, sums and deviations of a property."""
    values = aggregate_array(collection, property)
    rows = [(v,) for v in values]
    found = {name: SIMPLE[kind].rows(rows) for name, kind in (("sample_sd", "sampleStdDev"), ("total_sd", "stdDev"))}
    return {
        "min": min(values, default=None),
        "max": max(values, default=None),
        "mean": SIMPLE["mean"].rows(rows)["mean"],
        "sum": plain(sum(values)),
        "sum_sq": plain(sum(v * v for v in values)),
        "total_count": len(collection.elements),
        "valid_count": len(values),
        "weight_sum": len(values),
        "sample_sd": found["sample_sd"]["stdDev"],
        "sample_var": SIMPLE["sampleVariance"].rows(rows)["variance"],
        "total_sd": found["total_sd"]["stdDev"],
        "total_var": SIMPLE["variance"].rows(rows)["variance"],
    }


@algorithm("Collection.geometry")
def collection_geometry(collection: Collection, maxError: Any = None) -> Geometry:
    """The union of the elements' geometries."""
    return to_geometry(collection)
