"""An S3 client for Twisted programs: the one that this service has, under the names that txAWS gave its calls.

See ``docs/from-txaws.md``.
"""

from __future__ import annotations

from resumable.s3.client import S3Client as S3Client
from resumable.s3.sending import Stopped as Stopped
from resumable.s3.sending import WrongLength as WrongLength
from resumable.s3.values import AWSCredentials as AWSCredentials
from resumable.s3.values import AWSServiceEndpoint as AWSServiceEndpoint
from resumable.s3.values import BucketItem as BucketItem
from resumable.s3.values import BucketListing as BucketListing
from resumable.s3.values import MultipartCompletionResponse as MultipartCompletionResponse
from resumable.s3.values import MultipartInitiationResponse as MultipartInitiationResponse
from resumable.s3.values import S3Error as S3Error
from resumable.stores.port import NoSuchUpload as NoSuchUpload
from resumable.stores.port import NotFound as NotFound
from resumable.stores.port import OpenMultipart as OpenMultipart
from resumable.stores.port import PartMismatch as PartMismatch
from resumable.stores.port import StoredObject as StoredObject
from resumable.stores.port import StoredPart as StoredPart
from resumable.stores.port import StoreUnavailable as StoreUnavailable
