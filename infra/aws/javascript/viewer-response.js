// The viewer-response Function of CloudFront: hands the viewer what the origin-response handler meant for it, and
// nothing that edge and origin say to each other. It runs for origin statuses below 400, hits included, after the
// response headers policy.
function handler(event) {
  const response = event.response;
  const headers = response.headers;
  const told = headers[$TOLD_FIELD$];
  if (told) {
    if (told.value === $SILENCE$) delete headers['cache-control'];
    else headers['cache-control'] = {value: told.value};
  }
  Object.keys(headers).forEach(name => { if (/^nearshelf-/.test(name) || $REMOVED$.indexOf(name) >= 0) delete headers[name]; });
  return response;
}
