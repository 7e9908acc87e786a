// The viewer-request Function of CloudFront. infra/aws/functions.py fills in the names between dollar signs, takes out
// what no policy needs (`//? feature` at the end of a line, or around a block) and packs the rest.
//
// Its rules are those of edge/core/key.py, policy.py and request_rules.py, in the gateway's order. The runtime knows
// ES 5.1 with some additions: no classes, spread, destructuring, default parameters, `for...of`, `?.`, Map or Set.
import cf from 'cloudfront'; //? buckets

const HOSTS = $HOSTS$;
const MARKETS = $MARKETS$;
// Codes of two letters, end to end, for each market; empty for the default one, which takes everybody else.
const COUNTRIES = $COUNTRIES$; //? redirect
const DEFAULT_MARKET = $DEFAULT_MARKET$; //? redirect
const CRAWLERS = $CRAWLERS$; //? redirect
// Methods of a kind that says nothing else.
const METHODS = $METHODS$;
const BLOCKED = $BLOCKED$; //? blocked
// What the Function must know of a policy beside its path; policies that agree share a kind.
const KINDS = $KINDS$;
// One route a line: number of its kind, then its pattern. `^` is a market, `?` one segment, `#` the rest; `<` and `>`
// are the same two, with the name of a generation bucket in them.
const ROUTES = $ROUTES$.split('\n');
// Fields that only an edge may write: whatever the viewer sent under these names is deleted.
const FORGED = /^(nearshelf-|x-forwarded-|(forwarded|min-catalog-version)$|(?!cloudfront-).*country)/;

async function handler(event) {
  try {
    return await decide(event.request, event.context);
  } catch (error) {
    if (!error.fault) throw error;
    return explained(event.request.uri, 400, 'Bad Request', 'The address is malformed: ' + error.fault + '.');
  }
}

async function decide(request, context) {
  const headers = request.headers;
  const host = headers.host ? headers.host.value.toLowerCase() : '';
  if (HOSTS.concat(context.distributionDomainName).indexOf(host) < 0) return answer(421, 'Misdirected Request');
  const path = normalisePath(request.uri);
  const found = match(path.split('/'));
  const kind = KINDS[found.kind];
  const query = normaliseQuery(request.rawQueryString() || '', kind.query); //? query
  const country = headers['cloudfront-viewer-country']; //? country
  //? blocked {
  if (kind.blocked >= 0 && country && has(BLOCKED[kind.blocked], country.value)) {
    return explained(request.uri, 451, 'Unavailable For Legal Reasons', 'This is not available in your country.');
  }
  //? }
  if (kind.refuse) return answer(kind.refuse, 'Refused'); //? refuse
  const methods = kind.methods || METHODS;
  if (methods.split(' ').indexOf(request.method) < 0) {
    return answer(405, 'Method Not Allowed', 'allow', methods.replace(/ /g, ', '));
  }
  if (kind.auth > 1 && !headers.authorization) return answer(401, 'Unauthorized', 'www-authenticate', $CHALLENGE$); //? required
  if (kind.redirect) return answer(302, 'Found', 'location', '/' + marketOf(request, country) + '/'); //? redirect

  Object.keys(headers).forEach(name => { if (FORGED.test(name)) delete headers[name]; });
  if (!kind.cookies) request.cookies = {};
  request.uri = path;
  request.querystring = query; //? query
  request.querystring = ''; //? noquery
  headers[$AUTHORITY_FIELD$] = {value: host};
  let generation = 'none';
  // What a route must not store gets a key of its own, whichever cache behaviour CloudFront chose for the path.
  if (!kind.stored) generation = 'once.' + context.requestId;
  //? credentials {
  else if (headers.authorization) {
    if (kind.auth) generation = 'once.' + context.requestId;
    else delete headers.authorization;
  }
  //? }
  if (kind.bucket && generation === 'none') generation = await generationOf(kind.bucket, found, context.requestId); //? buckets
  headers[$GENERATION_FIELD$] = {value: generation};
  return request;
}

function answer(status, phrase, field, value) {
  const headers = {'cache-control': {value: 'no-store'}};
  if (field) headers[field] = {value: value};
  return {statusCode: status, statusDescription: phrase, headers: headers};
}

// As edge/gateway/answers.py: problem+json (RFC 9457) for the API, a small page for people.
function explained(uri, status, phrase, why) {
  const api = uri.slice(0, 5) === '/api/';
  const response = answer(status, phrase, 'content-type', api ? 'application/problem+json' : 'text/html; charset=utf-8');
  const page = '<!doctype html>\n<html lang="en">\n<title>' + phrase + '</title>\n<h1>' + phrase + '</h1>\n<p>' + why + '</p>\n</html>\n';
  const problem = {type: 'about:blank', title: phrase, status: status, detail: why};
  response.body = {encoding: 'text', data: api ? JSON.stringify(problem) : page};
  return response;
}

function refuse(fault) {
  throw {fault: fault};
}

// As edge/core/key.py: one spelling, or a fault.
function normalisePath(raw) {
  if (raw.charAt(0) !== '/') refuse('not-a-path');
  if (!/^[!"$-\[\]-~]*$/.test(raw)) refuse('bad-character');
  if (/%(?![0-9A-Fa-f]{2})/.test(raw)) refuse('bad-encoding');
  const path = raw.replace(/%(..)/g, (escape, hex) => {
    const code = parseInt(hex, 16);
    if (code < 32 || code === 127) refuse('encoded-control');
    if (code === 47 || code === 92) refuse('encoded-slash');
    const character = String.fromCharCode(code);
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase();
  }).replace(/["<>\[\]^`{|}]/g, percent);
  if (/\/\.\.?(\/|$)/.test(path)) refuse('dot-segment');
  if (/\/\//.test(path)) refuse('empty-segment');
  return path;
}

//? query {
// The parameters that count, in the policy's order.
function normaliseQuery(raw, allowed) {
  if (!raw || !allowed) return '';
  //? allquery {
  if (allowed === '*') {
    if (!/^[!$-;=?-~]*$/.test(raw)) refuse('bad-character');
    return raw;
  }
  //? }
  //? listed {
  const names = allowed.split(' ');
  const values = [];
  let repeated = false;
  raw.split('&').forEach(pair => {
    const parts = pair.replace(/\+/g, ' ').split('=');
    const number = names.indexOf(parts[0].replace(/%([0-9A-Fa-f]{2})/g, (escape, hex) => String.fromCharCode(parseInt(hex, 16))));
    if (number < 0) return;
    repeated = repeated || values[number] !== undefined;
    const value = parts.slice(1).join('=');
    if (/[^\x00-\x7f]/.test(value)) refuse('bad-character');
    try {
      values[number] = decodeURIComponent(value);
    } catch (error) {
      refuse('bad-encoding');
    }
    if (/[\x00-\x1f\x7f]/.test(values[number])) refuse('encoded-control');
  });
  if (repeated) refuse('repeated-parameter');
  return names.map((name, number) => values[number] === undefined ? '' : name + '=' + encode(values[number])).filter(text => text).join('&');
  //? }
}
//? }

//? encode {
function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, percent);
}
//? }

function percent(character) {
  return '%' + character.charCodeAt(0).toString(16).toUpperCase();
}

// The first route whose pattern matches; the last takes everything.
function match(segments) {
  let found = null, pattern = [];
  for (let i = 0; i < ROUTES.length && !found; i++) {
    pattern = ROUTES[i].split('/');
    found = captured(pattern, segments);
  }
  return found || {kind: pattern[0]};
}

function captured(pattern, segments) {
  const found = {kind: pattern[0]};
  for (let i = 1; i < pattern.length; i++) {
    const part = pattern[i];
    if (part === '#' || part === '>') segments = segments.slice(0, i).concat(segments.slice(i).join('/'));
    const segment = segments[i];
    if (part === '^') {
      if (MARKETS.indexOf(segment) < 0) return null;
      found.market = segment;
    } else if (part && '?#<>'.indexOf(part) >= 0) {
      if (!segment) return null;
      if (part === '<' || part === '>') found.name = segment; //? buckets
    } else if (part !== segment) return null;
  }
  return pattern.length === segments.length ? found : null;
}

//? pairs {
// Whether a code of two letters is among `codes`, which stand end to end.
function has(codes, code) {
  for (let i = 0; i < codes.length; i += 2) if (codes.slice(i, i + 2) === code) return true;
  return false;
}
//? }

//? redirect {
// As edge/core/market.py: of cookies that repeat the name the first.
function marketOf(request, country) {
  const cookie = request.cookies.ns_market;
  const chosen = cookie ? (cookie.multiValue || [cookie])[0].value.replace(/^"+|"+$/g, '') : '';
  if (MARKETS.indexOf(chosen) >= 0) return chosen;
  const agent = request.headers['user-agent'] ? request.headers['user-agent'].value.toLowerCase() : '';
  if (country && !CRAWLERS.test(agent)) {
    for (let i = 0; i < MARKETS.length; i++) if (has(COUNTRIES[i], country.value)) return MARKETS[i];
  }
  return DEFAULT_MARKET;
}
//? }

//? buckets {
// The highest position among the buckets that this request falls under: it only grows, so every change moves the key.
// Without the store's word nothing is reused, and the origin is asked for its head.
async function generationOf(letter, found, requestId) {
  try {
    const store = cf.kvs();
    const buckets = ['m:' + found.market, letter + ':' + found.market];
    // As cache_policies/tags.py. Throws on what is not UTF-8.
    if (letter !== 'h') buckets[1] += ':' + encode(decodeURIComponent(found.name).toLowerCase()).toLowerCase();
    let highest = await store.get('*');
    for (let i = 0; i < 2; i++) {
      // get() throws for a bucket that never changed as for a store out of order; exists() only for the latter.
      if (await store.exists(buckets[i])) {
        const position = await store.get(buckets[i]);
        if (isAbove(position.split('.'), highest.split('.'))) highest = position;
      }
    }
    if (/^\d+\.\d+$/.test(highest)) return highest;
  } catch (error) {
    console.log('no generation: ' + error);
  }
  return 'head.' + requestId;
}

// Compared as text of the same length: a double cannot hold every position.
function isAbove(a, b) {
  for (let i = 0; i < 2; i++) {
    if (a[i].length !== b[i].length) return a[i].length > b[i].length;
    if (a[i] !== b[i]) return a[i] > b[i];
  }
  return false;
}
//? }
