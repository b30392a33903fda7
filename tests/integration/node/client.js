// What Preevy's agent does with ssh2, one step at a time: a line of JSON on standard input asks for a step
// ({id, do, ...}), a line on standard output answers it ({id, value} or {id, error}). What happens without
// being asked for is a line too ({event, ...}). The end of standard input ends the connection.
'use strict';

const net = require('node:net');
const readline = require('node:readline');
const { promisify } = require('node:util');
const { Client } = require('ssh2');

const ssh = new Client();
const forward = promisify(ssh.openssh_forwardInStreamLocal.bind(ssh));
const unforward = promisify(ssh.openssh_unforwardInStreamLocal.bind(ssh));
const ports = new Map(); // of the local services, by forward request
const open = new Map(); // sessions that stay, by command, of which one at a time

function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

// One visitor's connection: the path is all that tells for which forward.
ssh.on('unix connection', ({ socketPath }, accept, reject) => {
  say({ event: 'connection', path: socketPath });
  if (!ports.has(socketPath)) {
    reject();
    return;
  }
  const channel = accept();
  const service = net.connect({ host: '127.0.0.1', port: ports.get(socketPath) });
  service.on('connect', () => channel.pipe(service).pipe(channel));
  service.on('error', () => {}); // 'close' follows
  service.on('close', () => channel.close());
  channel.on('close', () => service.destroy());
});
ssh.on('close', () => say({ event: 'closed' }));
ssh.on('error', ({ message }) => say({ event: 'error', message }));

const steps = {
  connect: ({ port, username, privateKey }) =>
    new Promise((resolve, reject) => {
      let hostKey;
      ssh.once('ready', () => resolve({ hostKey: hostKey.toString('base64') }));
      ssh.once('error', reject);
      // Like the agent we leave `strictVendor` on: ssh2 forwards only if it likes the server's version string.
      ssh.connect({
        host: '127.0.0.1',
        port,
        username,
        privateKey,
        keepaliveInterval: 15000,
        keepaliveCountMax: 3,
        hostVerifier: (key) => {
          hostKey = key;
          return true;
        },
      });
    }),

  forward: async ({ path, port }) => {
    await forward(path);
    ports.set(path, port);
  },

  unforward: async ({ path }) => {
    await unforward(path);
    ports.delete(path);
  },

  // Answers when the session ends, or with `stay` once there is a line of output.
  exec: ({ command, stay }) =>
    new Promise((resolve, reject) => {
      ssh.exec(command, (error, session) => {
        if (error) {
          reject(error);
          return;
        }
        // listened to at once: an 'exit' that came in the same packet as the answer is not told later
        const said = { out: '', error: '', status: null };
        session.stderr.on('data', (data) => (said.error += data));
        session.on('data', (data) => {
          said.out += data;
          if (stay && said.out.endsWith('\n')) {
            open.set(command, session);
            resolve(said);
          }
        });
        session.on('exit', (status) => (said.status = status));
        session.on('close', () => {
          open.delete(command);
          say({ event: 'session closed', command });
          resolve(said);
        });
      });
    }),

  // The server may have hung up first.
  hangUp: ({ command }) =>
    new Promise((resolve) => {
      const session = open.get(command);
      if (session === undefined) {
        resolve();
        return;
      }
      session.on('close', () => resolve());
      session.close();
    }),
};

const requests = readline.createInterface({ input: process.stdin });
requests.on('line', async (line) => {
  const { id, do: step, ...words } = JSON.parse(line);
  try {
    say({ id, value: await steps[step](words) });
  } catch ({ message }) {
    say({ id, error: message });
  }
});
requests.on('close', () => ssh.end());
