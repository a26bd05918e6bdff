"""Text files in, batches of ids out: readers, examples, noise, sampling, collation."""

from lrengine.data.examples import Example, TextNeeds, chunk_documents, load_examples
from lrengine.data.report import DataReport

__all__ = ["DataReport", "Example", "TextNeeds", "chunk_documents", "load_examples"]
