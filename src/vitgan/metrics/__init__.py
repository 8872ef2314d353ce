"""Metrics of generated images, each with the protocol that it was measured by."""

from vitgan.metrics.evaluate import METRICS, evaluate
from vitgan.metrics.features import EXTRACTORS, FeatureExtractor, load_extractor
from vitgan.metrics.image_summary import ImageSummary, summarize
from vitgan.metrics.protocol import PROTOCOLS, Protocol, find_protocol
from vitgan.metrics.reference import ReferenceStatistics, reference_statistics

__all__ = [
    "EXTRACTORS",
    "METRICS",
    "PROTOCOLS",
    "FeatureExtractor",
    "ImageSummary",
    "Protocol",
    "ReferenceStatistics",
    "evaluate",
    "find_protocol",
    "load_extractor",
    "reference_statistics",
    "summarize",
]
