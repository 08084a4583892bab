import urllib.request

from common import *

# Neither a proxy nor anything of the environment.
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls())
)
if PROXY != "-":
    sys.exit("this client knows no proxy")
for what, url in DOWNLOADS.items():
    with opener.open(url, timeout=60) as answer:
        report(what, answer.status, answer.read())
for what, url in UPLOADS.items():
    with opener.open(urllib.request.Request(url, data=UPLOAD), timeout=60) as answer:
        report_upload(what, answer.status, answer.read())
