"""Traces of requests for OpenTelemetry, where the settings name a collector."""

from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def trace(app: FastAPI, endpoint: str) -> None:
    """Send a span for each request of the application to an OTLP endpoint, in the background and in batches."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "genatlas"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, excluded_urls="healthz,readyz,metrics")
